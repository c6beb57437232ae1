"""The consumer's door: send a task to an agent, watch it, take its result."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

from blocks_worker.client.opening import (
    check_offered,
    chosen_source,
    connected,
    direct,
    network_client_of,
    one_provider,
)
from blocks_worker.client.params import SendMessageParams, check_drain_window, checked_role, params_of
from blocks_worker.client.settings import Wishes, billing_mode_of, check_headers
from blocks_worker.client.subscribed import TaskEventCallbacks, TaskSubscription
from blocks_worker.client.tasks import ListTasksParams, ListTasksResult, TaskInfo, checked_id, listed, task_named
from blocks_worker.controlplane.consumer_auth import one_mode
from blocks_worker.errors import AgentAuthFatalError, AuthRefreshFailedError, ConfigurationError, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from typing_extensions import Self, Unpack

    from blocks_worker.client.core import ClientCore
    from blocks_worker.client.params import RunOptions, SendOptions
    from blocks_worker.client.results import TaskResult
    from blocks_worker.client.session import TaskSession
    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.controlplane.providers import AuthProvider
    from blocks_worker.controlplane.sources import TokenEndpointConfig, TokenProvider
    from blocks_worker.protocol.events import ArtifactRef

_logger = logging.getLogger(__name__)

_UNAUTHORIZED = 401
_NOT_FOUND = 404


class TaskClient:
    """Use agents. Made by `create`; ``with client:`` destroys it at the end.

    Any number of threads may use one client. All its sessions share one connection to the network and one
    subscription.
    """

    def __init__(  # noqa: PLR0913 - the names which users know
        self,
        core: ClientCore | None = None,
        *,
        subscribe_key: str | None = None,
        billing_mode: str | None = None,
        publish_key: str | None = None,
        pubnub: Any = None,
        create_pubnub: Callable[[], Any] | None = None,
        create_session_pubnub: Callable[[], Any] | None = None,
        default_owner_id: str | None = None,
        base_url: str | None = None,
        agent_auth: AuthProvider | None = None,
        auth_provider: AuthProvider | None = None,
        anon_fingerprint: str | None = None,
        rpc_headers: Mapping[str, str] | None = None,
    ) -> None:
        """Make a client of given parts; `create` is the simple way.

        Args:
            core: what `create` made; nothing else is given then.
            subscribe_key: of the network, as `publish_key`.
            billing_mode: as in `create`.
            publish_key: see `subscribe_key`.
            pubnub: a client of the PubNub SDK, of which keys, origin and user id are taken.
            create_pubnub: makes one, as does `create_session_pubnub`.
            create_session_pubnub: see `create_pubnub`.
            default_owner_id: what `get_user_id` returns.
            base_url: the hub's address.
            agent_auth: the token of an instance, see `AgentInstance.auth`.
            auth_provider: gives the header of a consumer's token; without either only what is public can be read.
            anon_fingerprint: None; anonymous viewing is not offered.
            rpc_headers: sent along with each call to the hub.

        Raises:
            ValueError: the hub's address or a key is missing, or a setting is wrong.
        """
        check_offered(anon_fingerprint=anon_fingerprint)
        self._core = core or direct(
            subscribe_key=subscribe_key,
            publish_key=publish_key,
            base_url=base_url,
            billing_mode=billing_mode,
            network_client=network_client_of(pubnub, create_pubnub, create_session_pubnub),
            provider=one_provider(agent_auth, auth_provider),
            default_owner_id=default_owner_id,
            rpc_headers=rpc_headers,
        )

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
        token_endpoint: str | TokenEndpointConfig | None = None,
        token_provider: TokenProvider | None = None,
        anon_fingerprint: str | None = None,
        rpc_headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        transport: str | None = None,
        on_auth_error: Callable[[Exception], None] | None = None,
    ) -> TaskClient:
        """Return a client that is logged in.

        Without an address and a key it finds the hub that runs on this machine. A client of a hub elsewhere
        that has no credentials reads only what is public.

        Args:
            billing_mode: ``free`` or ``paid``; the agent's must be the same.
            env: another name for `billing_mode`.
            cdm_url: where the document is that names hub and network; http(s) or a file.
            subscribe_key: wins over the document, as do `publish_key` and `base_url`.
            publish_key: see `subscribe_key`.
            base_url: see `subscribe_key`; the hub's address.
            api_key: begins with ``bk_``; one of the three ways in.
            token_endpoint: another: a URL that answers a POST with ``token``, ``expiresIn``, ``userId``, or a dict
                with ``url``, ``headers``, ``body``.
            token_provider: the third: a function that returns a `TokenResult`, or a dict as above; called on a thread
                of its own, and waited for `timeout` seconds.
            anon_fingerprint: None; anonymous viewing is not offered.
            rpc_headers: sent along with each call to the hub.
            timeout: seconds of one call to the hub, and of a submit with its repeats.
            transport: ``pubnub`` or ``hublink``; None: as ``BLOCKS_TRANSPORT``, else the document, says.
            on_auth_error: called with the exception once the login could not be renewed three times.

        Raises:
            ValueError: a setting is missing, wrong or contradicts another.
            HubUnavailableError: no hub answers.
            RuntimeError: the key is refused, or the endpoint gave no token; what the function raises comes through.
        """
        mode = billing_mode_of(billing_mode, env)
        check_offered(anon_fingerprint=anon_fingerprint, transport=transport)
        one_mode(api_key=api_key, token_endpoint=token_endpoint, token_provider=token_provider)
        headers = check_headers(rpc_headers)
        source = chosen_source(token_endpoint, token_provider, timeout)
        wishes = Wishes(
            cdm_url=cdm_url,
            subscribe_key=subscribe_key,
            publish_key=publish_key,
            base_url=base_url,
            api_key=api_key,
            has_tokens=source is not None,
            needs_key=False,
            transport=transport,
        )
        made = connected(wishes, mode, timeout=timeout, headers=headers, source=source, on_auth_error=on_auth_error)
        return cls(made)

    @overload
    def send_message(self, params: SendMessageParams | Mapping[str, Any], /) -> TaskSession: ...

    @overload
    def send_message(
        self, agent_name: str, request_parts: object = ..., **options: Unpack[SendOptions]
    ) -> TaskSession: ...

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
            auto_drain: streams that are open when the task ends may end by themselves first; else they are cut.
            drain_window_s: seconds for that; None: 30.
            role: ``consumer``; or ``provider``, by which the owner of an agent sees what others sent to it, and cannot
                stop it.

        Raises:
            RuntimeError: the client was destroyed, or its login could not be renewed.
            RpcError: this user has no such task in this role.
            HubUnavailableError: the hub did not answer in time.
        """
        check_drain_window(drain_window_s)
        return self._core.attach(
            checked_id(task_id), auto_drain=auto_drain, drain_window=drain_window_s, role=checked_role(role)
        )

    def subscribe_to_task(self, task_id: str, owner_id: str | None, callbacks: TaskEventCallbacks) -> TaskSubscription:
        """Call back with every event of a task, from its first one on, until the terminal one or `unsubscribe`.

        Raises:
            TypeError: the callbacks are something else.
            ValueError: the task is not this owner's.
            RpcError: this user has no such task.
        """
        if not isinstance(callbacks, TaskEventCallbacks):
            raise TypeError(f"callbacks are TaskEventCallbacks, not {type(callbacks).__name__}")
        self._check_owner(owner_id)
        session = self._core.attach(checked_id(task_id), prepare=callbacks.give_to)
        return TaskSubscription(task_id, session.cut)

    def send_many(self, many: Iterable[SendMessageParams | Mapping[str, Any]]) -> list[TaskSession]:
        """Ask for many tasks in as few requests as they fit in; return a session for each, in order.

        An entry is such as ``{"agent_name": "echo", "request_parts": "Hello"}``, or `SendMessageParams`.
        All are checked, and their large files stored, before any is asked for.

        Raises:
            ValueError, TypeError: one does not fit; none was sent.
            SomeRefusedError: the hub refused some; its `results` has the sessions of the others.
            HubUnavailableError: the hub did not answer in time.
        """
        return self._core.send_many([params_of((params,), {}) for params in many])

    def run(
        self, agent: str, parts: object = None, timeout: float | None = 60, **keywords: Unpack[RunOptions]
    ) -> TaskResult:
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
        with task_named(task_id):
            return TaskInfo.of(self._core.api.get_task(checked_id(task_id)))

    def list_tasks(self, params: ListTasksParams | None = None, *, dead: bool | str | None = None) -> ListTasksResult:
        """Return this user's tasks, newest first, as `.tasks` of one page, or of as many as `limit` says.

        `dead` in short for that of the params: only those that the hub gave up, for any reason or for this one.
        """
        self._core.ready()
        wanted = params or ListTasksParams()
        wanted = wanted if dead is None else replace(wanted, dead=dead)
        self._check_owner(wanted.owner_id)
        query, ask = wanted.query(), self._core.api.list_tasks
        return listed(lambda limit, cursor: ask(**query, cursor=cursor, limit=limit), wanted)

    def _check_owner(self, owner_id: str | None) -> None:
        if owner_id not in {None, self.get_user_id(), self._core.login.user_id}:
            raise ConfigurationError("owner_id can only be this user's own: a hub shows nobody else's tasks")

    def cancel_task(self, task_id: str, reason: str | None = None) -> str:
        """Ask a task to stop; return its state as it is then. One that is over stays as it is."""
        self._core.stop_task(checked_id(task_id), reason=reason, terminated=False)
        return self.get_task(task_id).state

    def terminate_task(self, task_id: str, reason: str | None = None) -> str:
        """Have a task ended soon, whatever its handler does; return its state as it is then."""
        self._core.stop_task(checked_id(task_id), reason=reason, terminated=True)
        return self.get_task(task_id).state

    def pause_task(self, task_id: str) -> str:
        """Ask a task to wait until it is resumed; return its state as it is then.

        One that nobody runs is given to nobody. The handler of one that runs is told, and obeys when it calls
        ``ctx.wait_while_paused()``: only then is the state ``paused``. Limits of time go on. One that is over stays.
        """
        return self._pause(task_id, on=True)

    def resume_task(self, task_id: str) -> str:
        """Have a paused task go on; return its state as it is then."""
        return self._pause(task_id, on=False)

    def _pause(self, task_id: str, *, on: bool) -> str:
        return self._core.pause_task(checked_id(task_id), on=on).state

    def answer_task(self, task_id: str, value: Any, ask_id: str | None = None) -> str:
        """Answer the question that a task has open, or the one of this name; return its state as it is then.

        The first answer stands; the same again is no error, also when the task has gone on.

        Raises:
            InvalidMessageError: the value is no JSON.
            RpcError: there is no such task; or, by its code: ``InvalidAnswer``, it does not fit the question, which is
                still open; ``AnsweredBefore``, another value stands (``error.details["value"]``); ``QuestionClosed``,
                nobody answered in time; ``NotAsked``.
            HubUnavailableError: the hub did not answer in time.
        """
        return self._core.answer_task(checked_id(task_id), value, ask_id)

    def retry_task(
        self, task_id: str, idempotency_key: str | None = None, *, keep_steps: bool = True, keep_answers: bool = True
    ) -> str:
        """Send a task that failed or was canceled again, with the same input; return the id of the new task.

        The new one says in its row which it was (``get_task(new).extra["retryOf"]``); the old one stays as it is. Its
        limits of a run go along, a deadline does not. The same key again gives the same new task. What the old one did
        in `ctx.step` is not done again, unless `keep_steps` is False, and what was answered to `ctx.ask` is not asked
        again, unless `keep_answers` is.

        Raises:
            RpcError: there is no such task, or, with the code ``InvalidState``, it goes on or is completed.
            HubUnavailableError: the hub did not answer in time.
        """
        return self._core.retry_task(
            checked_id(task_id), idempotency_key, keep_steps=keep_steps, keep_answers=keep_answers
        )

    def purge_task(self, task_id: str) -> None:
        """Have the hub delete a task that is over, with its input, events and files; nothing brings it back.

        Raises:
            RpcError: there is no such task, or, with the code ``InvalidState``, it goes on.
            HubUnavailableError: the hub did not answer in time.
        """
        self._core.purge_task(checked_id(task_id))

    def get_agent_card(self, name: str) -> dict[str, Any] | None:
        """Return an agent's card; None where there is no such agent, or it has none.

        Raises:
            AuthRefreshFailedError: this client's token is not taken, and there is no other.
        """
        try:
            self._core.ready() if self._core.has_credentials else self._core.check_open()
            return self._core.public_api.agent(name).card
        except AgentAuthFatalError as error:
            raise AuthRefreshFailedError(str(error)) from error
        except RpcError as error:
            if error.status == _NOT_FOUND:
                return None
            if error.status == _UNAUTHORIZED:
                raise AuthRefreshFailedError(f"the hub does not take this client's token: {error}") from error
            raise

    def get_user_id(self) -> str:
        """Return who this client is: whom its tokens name."""
        return self._core.user_id

    def update_keys(self, subscribe_key: str, publish_key: str | None = None) -> None:
        """Listen with other keys of the network from now on; sessions go on and miss nothing."""
        if not subscribe_key:
            raise ConfigurationError("subscribe_key is empty")
        self._core.use_keys(subscribe_key, publish_key)

    def file_pieces(self, ref: ArtifactRef) -> Iterator[bytes]:
        """Yield a stored file of this user by pieces of at most 64 KiB, checked at its end."""
        return self._core.file_pieces(ref)

    @property
    def api(self) -> HubApi:
        """The hub's interface under this client's login."""
        return self._core.api

    def destroy(self) -> None:
        """Close all sessions, whose waiters are woken, and every connection. Tasks go on.

        Sessions whose task is over call their callbacks first, as their `close` does.
        """
        self._core.hand_out()
        self._core.destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_exc: object) -> None:
        if error is None:
            self._core.hand_out()
        self._core.destroy()
