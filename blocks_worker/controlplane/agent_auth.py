"""A worker's access token as others may use it: get, refresh, one refresh at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blocks_worker.errors import AuthRefreshFailedError

if TYPE_CHECKING:
    from collections.abc import Callable


class WorkerLogin(Protocol):
    """Be the login of a worker, as far as its token goes."""

    @property
    def error(self) -> Exception | None:
        """Why the token could not be renewed for some time, if so."""

    def access_token(self) -> str:
        """Return the token."""

    def on_unauthorized(self, refused: str) -> bool:
        """Renew because this token was refused; tell whether there is another one."""


class AgentAuth:
    """Give the access token of a running instance; made by it, see `AgentInstance.auth`. It is an `AuthProvider`.

    The instance renews the token by itself, ahead of time; `refresh` is for a token that was refused.
    """

    def __init__(self, login: WorkerLogin) -> None:
        self._login = login

    def get(self) -> str:
        """Return the access token.

        Raises:
            AuthRefreshFailedError: the instance is not registered yet.
        """
        return self._login.access_token()

    def refresh(self) -> str:
        """Return another token; of callers who come together one asks the hub, and all get its answer.

        Raises:
            AgentAuthFatalError: the key was revoked, or the agent taken offline.
            AuthRefreshFailedError: it could not be renewed now; the old one stays.
        """
        if not self._login.on_unauthorized(self.get()):
            raise self._login.error or AuthRefreshFailedError("the worker's token could not be renewed now")
        return self.get()

    def get_auth_header(self) -> str | None:
        """Return the header of the token; None before the instance is registered."""
        return _or_none(lambda: f"Bearer {self.get()}")

    def on_auth_failure(self) -> bool:
        """Renew the token because it was refused; tell whether there is another one."""
        return _or_none(self.refresh) is not None


def _or_none(act: Callable[[], str]) -> str | None:
    try:
        return act()
    except RuntimeError:  # both that a login raises are
        return None
