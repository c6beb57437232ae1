"""The seam to credentials of the user's making: what a client asks for a header, and tells when that was refused."""

from __future__ import annotations

from typing import Protocol


class AuthProvider(Protocol):
    """Give the header by which the hub knows who calls.

    It may have two methods besides: ``ensure_ready()``, called before the header is asked for, which raises when
    there can be none, and ``get_last_auth_error()``.
    """

    def get_auth_header(self) -> str | None:
        """Return the whole value of ``Authorization``, or None while there is none."""

    def on_auth_failure(self) -> bool:
        """Get another one because the last was refused; tell whether there is."""


class StaticAuthProvider:
    """Give one token for ever."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_auth_header(self) -> str | None:
        """Return the header."""
        return f"Bearer {self._token}"

    def on_auth_failure(self) -> bool:
        """Say that there is no other one."""
        return False
