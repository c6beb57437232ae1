"""The consumer's door: send a task to an agent, watch it, take its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks_worker import config
from blocks_worker.client.core import ClientCore
from blocks_worker.client.params import SendMessageParams, params_of
from blocks_worker.client.settings import Wishes, billing_mode_of, check_headers, find_place
from blocks_worker.client.tasks import ListTasksParams, ListTasksResult, TaskInfo
from blocks_worker.errors import ConfigurationError, RpcError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from blocks_worker.client.results import TaskResult
    from blocks_worker.client.session import TaskSession
    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.events import ArtifactRef

_NOT_FOUND = 404


class TaskClient:
    """Use agents. Made by `create`; ``with client:`` destroys it at the end.

    Any number of threads may use one client. All its sessions share one connection to the network and one
    subscription.
    """

    def __init__(self, core: ClientCore) -> None:
        self._core = core

    @classmethod
    def create(  # noqa: PLR0913 - the names which users know
        cls,
        billing_mode: str | None = None,
        *,
        env: str | None = None,
        cdm_url: str | None = None,
        subscribe_key: str | None = None,
        publish_key: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        anon_fingerprint: str | None = None,
        rpc_headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        on_auth_error: Callable[[Exception], None] | None = None,
    ) -> TaskClient:
        """Return a client that is logged in.

        Without an address and a key it finds the hub that runs on this machine.

        Args:
            billing_mode: ``free`` or ``paid``; the agent's must be the same.
            env: another name for `billing_mode`.
            cdm_url: where the document is that names hub and network; http(s) or a file.
            subscribe_key: wins over the document, as do `publish_key` and `base_url`.
            publish_key: see `subscribe_key`.
            base_url: see `subscribe_key`; the hub's address.
            api_key: begins with ``bk_``.
            anon_fingerprint: None; anonymous viewing is not offered.
            rpc_headers: sent along with each call to the hub.
            timeout: seconds of one call to the hub, and of a submit with its repeats.
            on_auth_error: called with the exception once the login could not be renewed three times.

        Raises:
            ValueError: a setting is missing, wrong or contradicts another.
            HubUnavailableError: no hub answers.
            RuntimeError: the key is refused.
        """
        mode = billing_mode_of(billing_mode, env)
        if anon_fingerprint is not None:
            raise ConfigurationError("anon_fingerprint must be None: anonymous viewing is not offered")
        if not timeout > 0:
            raise ConfigurationError(f"timeout is a number of seconds above 0, not {timeout!r}")
        headers = check_headers(rpc_headers)
        wishes = Wishes(
            cdm_url=cdm_url,
            subscribe_key=subscribe_key,
            publish_key=publish_key,
            base_url=base_url,
            api_key=api_key,
        )
        settings = config.client_config()
        core = ClientCore(
            find_place(wishes, settings, mode, timeout=timeout),
            billing_mode=mode,
            timeout=timeout,
            inline_limit=settings.inline_limit,
            headers=headers,
            on_auth_error=on_auth_error,
        )
        core.connect()
        return cls(core)

    def send_message(self, *args: object, **keywords: Any) -> TaskSession:
        """Ask for a task; return the session that shows it from its first event on.

        Takes the fields of `SendMessageParams` as keywords; or one `SendMessageParams` or dict; or the agent's
        name and the parts, and then keywords. A bare text is one text part.

        Raises:
            ValueError, TypeError: an argument does not fit.
            FileUploadError: a file over the inline limit could not be stored.
            RpcError: the hub refused; its `code` tells why.
            HubUnavailableError: the hub did not answer in time.
        """
        return self._core.send(params_of(args, keywords))

    def connect(
        self,
        task_id: str,
        auto_drain: bool = True,  # noqa: FBT001, FBT002 - the arguments which users know
        drain_window_s: float | None = None,
        role: str = "consumer",
    ) -> TaskSession:
        """Return the session of a task that exists: sent by another process, another client, or some time ago.

        State, events and artifacts are there when this returns. A task that is over gives a complete, closed
        session; any other is told live from there on, with nothing missing between. Its callbacks are told of
        earlier artifacts and of the end, not of earlier progress: `list_events()` has it.

        Args:
            task_id: as `session.task_id` said; a task of this user, in either billing mode.
            auto_drain: how open streams end with the task; without effect as long as tasks have no streams.
            drain_window_s: seconds for that; without effect as well.
            role: ``consumer``; an agent's owner sees its tasks in a later version.

        Raises:
            RuntimeError: the client was destroyed, or its login could not be renewed.
            RpcError: this user has no such task.
            HubUnavailableError: the hub did not answer in time.
        """
        del auto_drain, drain_window_s
        if role != "consumer":
            raise ConfigurationError(f"role {role!r} is not offered: only whose task it is may watch it, as 'consumer'")
        return self._core.attach(task_id)

    def run(self, agent: str, parts: object = None, timeout: float | None = 60, **keywords: Any) -> TaskResult:
        """Send, wait and return the result.

        Raises:
            TaskFailedError: the task failed or was canceled.
            TimeoutError: it is not over yet; it goes on.
        """
        with self.send_message(SendMessageParams(agent_name=agent, request_parts=parts, **keywords)) as session:
            return session.result(timeout)

    def get_task(self, task_id: str) -> TaskInfo:
        """Return one task of this user."""
        self._core.ready()
        return TaskInfo.of(self._core.api.get_task(task_id))

    def list_tasks(self, params: ListTasksParams | None = None) -> ListTasksResult:
        """Return one page of this user's tasks, newest first."""
        self._core.ready()
        wanted = params or ListTasksParams()
        if wanted.owner_id not in {None, self.get_user_id()}:
            raise ConfigurationError("owner_id can only be this user's own: a hub shows nobody else's tasks")
        page = self._core.api.list_tasks(
            state=wanted.state, agent=wanted.agent_name, cursor=wanted.cursor, limit=wanted.limit
        )
        return ListTasksResult.of(page)

    def cancel_task(self, task_id: str, reason: str | None = None) -> str:
        """Ask a task to stop; return its state as it is then. One that is over stays as it is."""
        self._core.stop_task(task_id, reason=reason, terminated=False)
        return self.get_task(task_id).state

    def terminate_task(self, task_id: str, reason: str | None = None) -> str:
        """Have a task ended soon, whatever its handler does; return its state as it is then."""
        self._core.stop_task(task_id, reason=reason, terminated=True)
        return self.get_task(task_id).state

    def get_agent_card(self, name: str) -> dict[str, Any] | None:
        """Return an agent's card; None where there is no such agent, or it has none."""
        self._core.ready()
        try:
            return self._core.api.agent(name).card
        except RpcError as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    def get_user_id(self) -> str:
        """Return who the hub takes this client for."""
        return self._core.login.user_id

    def file_pieces(self, ref: ArtifactRef) -> Iterator[bytes]:
        """Yield a stored file of this user by pieces of at most 64 KiB, checked at its end."""
        return self._core.file_pieces(ref)

    @property
    def api(self) -> HubApi:
        """The hub's interface under this client's login."""
        return self._core.api

    def destroy(self) -> None:
        """Close all sessions, whose waiters are woken, and every connection. Tasks go on."""
        self._core.destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.destroy()


def create_task_client(
    billing_mode: str | Mapping[str, Any] | None = None,
    *,
    env: str | None = None,
    api_key: str | None = None,
    **more: Any,
) -> TaskClient:
    """Return a client made from the surroundings: takes ``.env`` in, and the key from ``BLOCKS_API_KEY``.

    The billing mode is ``free`` unless told. A dict in its place is taken as the keywords.

    Raises:
        KeyError: there is no key, and the hub is not on this machine.
    """
    if isinstance(billing_mode, Mapping):
        return create_task_client(**{**billing_mode, **more})
    config.load_dotenv(Path.cwd())
    mode = "free" if billing_mode is None and env is None else billing_mode
    connection = config.connection()
    cdm_url = more.get("cdm_url") or connection.cdm_url
    is_local = cdm_url is None or config.is_loopback_url(cdm_url)
    if api_key is None and connection.api_key is None and not is_local:
        raise KeyError("BLOCKS_API_KEY is not set, and the hub is not on this machine")
    return TaskClient.create(mode, env=env, api_key=api_key, **more)
