"""The doors of credentials: keys and refresh tokens in, token pairs and channel grants out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from blocks_worker.hub.api.batches import refusal_of, written
from blocks_worker.hub.api.calls import Answer, Door
from blocks_worker.hub.cards import check_card_of
from blocks_worker.hub.problems import BAD_REQUEST, CONFLICT, FORBIDDEN, UNAUTHORIZED, RefusalError
from blocks_worker.hub.store import agents
from blocks_worker.hub.task_service import Reply
from blocks_worker.protocol import codec
from blocks_worker.protocol.channels import AGENT, INSTANCE, check_name, task_channel
from blocks_worker.protocol.control import PROTOCOL_VERSION
from blocks_worker.protocol.credentials import SessionAnswer, SessionRequest
from blocks_worker.protocol.leases import (
    ConnectAnswer,
    ConnectRequest,
    ConsumerToken,
    ConsumerTokenRequest,
    RefreshAnswer,
    RefreshRequest,
)
from blocks_worker.protocol.tasks import ReadToken, ReadTokenRequest, TaskRow

if TYPE_CHECKING:
    from blocks_worker.concurrency import SteadyClock
    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.api.cdm import Surroundings
    from blocks_worker.hub.auth.guard import Guard
    from blocks_worker.hub.auth.logins import Logins, Pair
    from blocks_worker.hub.instance_service import InstanceService, Registration
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.store import Store
    from blocks_worker.hub.task_service import Consumer, TaskService
    from blocks_worker.protocol.leases import Numbers

_OK = 200

#: The owner of the key in the state folder. Its agents are seen by everybody who may call this hub.
LOCAL_OWNER = "local"


class AuthDoors:
    """Let instances and consumers in."""

    def __init__(
        self,
        *,
        store: Store,
        logins: Logins,
        guard: Guard,
        tasks: TaskService,
        instances: InstanceService,
        surroundings: Surroundings,
        numbers: Numbers,
        steady: SteadyClock,
    ) -> None:
        self._store = store
        self._logins = logins
        self._guard = guard
        self._tasks = tasks
        self._instances = instances
        self._surroundings = surroundings
        self._numbers = numbers
        self._steady = steady

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [
            Door("POST", "/api/v1/auth/agent/connect", self.connect),
            Door("POST", "/api/v1/auth/agent/refresh", self.refresh),
            Door("POST", "/api/v1/auth/agent/consumer-token", self.consumer_token),
            Door("POST", "/api/v1/auth/session", self.session),
            Door("POST", "/api/v1/auth/task-read-token", self.task_read_token),
        ]

    async def connect(self, call: Call) -> Answer:
        """Register one process life of an instance.

        Who: API key
        Answers: 200 · 400, a wrong card, `UnsupportedVersion` · 401 · 403 `Quarantined`, `AGENT_FORCED_OFFLINE`
          · 409 name is somebody else's · 410 incarnation is over
        """
        request = codec.decode(ConnectRequest, call.body)
        _check_version(request.protocol_versions)
        check_name("agentName", request.agent_name, AGENT)
        check_name("instanceId", request.instance_id, INSTANCE)
        check_name("incarnation", request.incarnation, INSTANCE)
        if request.user_id is not None:
            check_name("userId", request.user_id, INSTANCE)
        key = call.api_key
        if request.card:
            # A large card costs more to check than to refuse: only a key that is good is worth it.
            self._store.read(lambda ledger: self._logins.owner(ledger, key))
            check_card_of(request.card)
        return Answer(_OK, codec.encode(await written(self._store, lambda ledger: self._connect(ledger, key, request))))

    async def refresh(self, call: Call) -> Answer:
        """Trade a refresh token, of an instance or a consumer, for the next pair.

        Who: API key with a refresh token
        Answers: 200 · 401
        """
        request = codec.decode(RefreshRequest, call.body)
        key = call.api_key
        pair = await written(
            self._store,
            lambda ledger: self._logins.renewed(ledger, self._logins.enter(ledger, key), request.refresh_token),
        )
        if pair is None:
            text = "the refresh token was used, has expired or is unknown: connect again"
            raise RefusalError(UNAUTHORIZED, "REFRESH_TOKEN_INVALID", text)
        return Answer(_OK, codec.encode(_refreshed(pair)))

    async def consumer_token(self, call: Call) -> Answer:
        """Trade an API key for a consumer's tokens and a session channel.

        Who: API key in the body or as bearer
        Answers: 200 · 401
        """
        key = codec.decode(ConsumerTokenRequest, call.body or b"{}").api_key or call.api_key
        return Answer(_OK, codec.encode(await written(self._store, lambda ledger: self._consumer(ledger, key))))

    async def session(self, call: Call) -> Answer:
        """Trade an access token, wherever it came from, for a session: access token, channel and grant.

        Who: consumer or instance
        Answers: 200, with the channel of the session whose access token is sent along · 401
        """
        bearer, expires = self._guard.admitted(call.bearer)
        previous = codec.decode(SessionRequest, call.body or b"{}").access_token
        consumer, pair = self._logins.session(bearer, expires=expires, previous=previous)
        answer = SessionAnswer(
            access_token=pair.access_token,
            expires_in=pair.expires_in,
            user_id=consumer.owner,
            session_channel=consumer.session_channel or "",
            pam_token=pair.pam_token,
            pam_expires_in=pair.pam_expires_in,
        )
        return Answer(_OK, codec.encode(answer))

    async def task_read_token(self, call: Call) -> Answer:
        """Grant reading the channel of one of the caller's tasks, or, as `provider`, of a task of his agent.

        Who: consumer
        Answers: 200 · 404
        """
        consumer = self._guard.consumer(call.bearer)
        request = codec.decode(ReadTokenRequest, call.body)
        return Answer(_OK, codec.encode(self._store.read(lambda ledger: self._read(ledger, consumer, request))))

    def _connect(self, ledger: Ledger, key: str | None, request: ConnectRequest) -> ConnectAnswer:
        entered = self._logins.enter(ledger, key)
        owner = entered.owner
        listing = "public" if owner == LOCAL_OWNER else "private"
        _check_online(ledger, request.agent_name)
        mine = agents.connect(ledger.connection, owner, request, listing=listing, now=self._steady.now_ms())
        facts = ledger.agent(request.agent_name)
        if not mine or facts is None:
            text = f"the agent name {request.agent_name!r} belongs to somebody else: choose another"
            raise RefusalError(CONFLICT, "AgentNameReserved", text)
        registration = self._instances.connect(ledger, owner, request, facts)
        if isinstance(registration, Reply):
            raise refusal_of(registration)
        holder = replace(registration.holder, key=entered.key, user=request.user_id or "")
        told = {"agent": holder.agent_name, "instance": holder.instance_id, "incarnation": holder.incarnation}
        ledger.noted("instance_connected", by=owner, key=entered.key, **told)
        pair = self._logins.instance_pair(ledger, holder)
        return self._connected(pair, registration, facts.billing_mode)

    def _connected(self, pair: Pair, registration: Registration, billing_mode: str) -> ConnectAnswer:
        return ConnectAnswer(
            access_token=pair.access_token,
            refresh_token=pair.refresh_token,
            expires_in=pair.expires_in,
            pam_token=pair.pam_token,
            pam_expires_in=pair.pam_expires_in,
            agent_id=registration.holder.agent_id,
            control_channel=registration.control_channel,
            message_key=registration.message_key,
            numbers=self._numbers,
            hub_time=registration.hub_time,
            billing_mode="paid" if billing_mode == "paid" else "free",
        )

    def _consumer(self, ledger: Ledger, key: str | None) -> ConsumerToken:
        entered = self._logins.enter(ledger, key)
        consumer = self._logins.new_consumer(entered.owner, entered.key)
        pair = self._logins.consumer_pair(ledger, consumer)
        return ConsumerToken(
            access_token=pair.access_token,
            refresh_token=pair.refresh_token,
            expires_in=pair.expires_in,
            token=pair.access_token,
            user_id=consumer.owner,
            session_channel=consumer.session_channel or "",
            pam_token=pair.pam_token,
            pam_expires_in=pair.pam_expires_in,
        )

    def _read(self, ledger: Ledger, consumer: Consumer, request: ReadTokenRequest) -> ReadToken:
        reply = self._tasks.get(ledger, consumer, request.task_id, request.role)
        record = ledger.task(request.task_id)
        if record is None or not isinstance(reply.body, TaskRow):
            raise refusal_of(reply)
        channel = task_channel(record.owner, request.task_id)
        keyset = self._surroundings.keyset(record.billing_mode)
        return ReadToken(
            pam_token=self._logins.task_grant(channel, consumer),
            channel=channel,
            ttl_minutes=self._logins.grant_minutes,
            subscribe_key=keyset.subscribe_key,
            publish_key=keyset.publish_key,
        )


def _check_online(ledger: Ledger, name: str) -> None:
    row = agents.find(ledger.connection, name)
    if row is not None and row.offline:
        text = f"agent {name!r} was taken offline: 'blocks agents online {name}' lets it in again"
        raise RefusalError(FORBIDDEN, "AGENT_FORCED_OFFLINE", text)


def _refreshed(pair: Pair) -> RefreshAnswer:
    return RefreshAnswer(
        access_token=pair.access_token,
        refresh_token=pair.refresh_token,
        expires_in=pair.expires_in,
        pam_token=pair.pam_token,
        pam_expires_in=pair.pam_expires_in,
    )


def _check_version(spoken: list[str]) -> None:
    """Refuse an instance that does not speak our version, whatever its minor one: what it says would be misread."""
    if PROTOCOL_VERSION not in {version.partition(".")[0] for version in spoken}:
        said = ", ".join(spoken[:8]) or "none"
        text = f"this hub speaks version {PROTOCOL_VERSION}, the instance {said[:64]}: use the same release"
        raise RefusalError(BAD_REQUEST, "UnsupportedVersion", text)
