"""Hear one task's channel with a client of the PubNub SDK: no hub to ask, so what was missed stays missed."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from blocks_worker.client.callbacks import Callback, CallbackPool, CallbackQueue, kinds_of
from blocks_worker.client.events import TaskEvent
from blocks_worker.concurrency import Clock, Deadline, Entropy, ServiceThread
from blocks_worker.errors import InvalidMessageError, TransportClosedError
from blocks_worker.protocol.channels import TASK, check_name, task_channel
from blocks_worker.transports.base import Message
from blocks_worker.transports.pubnub.client import given_settings, given_token
from blocks_worker.transports.pubnub.transport import PubNubTransport

if TYPE_CHECKING:
    from blocks_worker.client.subscribed import TaskEventCallbacks

_logger = logging.getLogger(__name__)

#: Seconds for closing the transport.
_CLOSING = 2.0


class LiveOrder:
    """Show what comes as it comes: never twice, nothing of an older epoch, nothing after the end."""

    def __init__(self, task_id: str) -> None:
        self._task_id = task_id
        self._epoch = 0
        self._n = 0
        self._seq = 0
        self.is_over = False

    def takes(self, event: TaskEvent) -> bool:
        """Tell whether an event is to be shown."""
        if self.is_over or event.task_id != self._task_id or event.epoch < self._epoch:
            return False
        if event.epoch > self._epoch:
            self._epoch, self._n = event.epoch, 0
        if event.n is not None:
            is_new, self._n = event.n > self._n, max(self._n, event.n)
        elif event.seq is not None:
            is_new, self._seq = event.seq > self._seq, max(self._seq, event.seq)
        else:
            is_new = True
        self.is_over = is_new and event.type == "terminal"
        return is_new


class BareWatch:
    """Own a connection of its own to the network, with the keys, the user and the token of the client that was given.

    The thread "task-watch" is a daemon: it waits in a queue that foreign code feeds. It ends with the task, and when
    told to. The given client itself is only looked at.
    """

    def __init__(self, client: Any, task_id: str, owner_id: str, callbacks: TaskEventCallbacks) -> None:
        check_name("task id", task_id, TASK)
        if not owner_id:
            raise ValueError("owner_id is missing: the channel of a task is named by it, see session.owner_id")
        self._clock = Clock()
        entropy = Entropy()
        self._order = LiveOrder(task_id)
        self._channel = task_channel(owner_id, task_id)
        self._transport = PubNubTransport(
            given_settings(client), grants=_Given(client), producer=entropy.name(), clock=self._clock, entropy=entropy
        )
        self._lock = threading.Lock()
        self._pool = CallbackPool()
        self._queue = CallbackQueue(self._pool, self._lock, self._settle, entry_point="subscribeToTask")
        self._callbacks: dict[str, Callback] = {
            kind: Callback(kind, function) for kind, function in callbacks.by_kind()
        }
        if callbacks.on_error is not None:
            self._queue.add_error_callback(Callback("onError", callbacks.on_error))
        self._stopping = False
        self._thread = ServiceThread("task-watch", self._run, daemon=True)

    def start(self) -> None:
        """Listen: what is said after this is told."""
        self._subscription = self._transport.subscribe([self._channel])
        self._thread.start()

    def stop(self) -> None:
        """Call nothing any more, and let go of the network."""
        with self._lock:
            self._stopping = True
            self._queue.drop()
        deadline = Deadline(_CLOSING, self._clock)
        self._transport.close(deadline)
        self._thread.join(deadline.remaining())
        self._pool.stop()

    def _run(self) -> None:
        try:
            while not self._stopping and not self._order.is_over:
                for item in self._subscription.receive(None):
                    if isinstance(item, Message):
                        self._take(item.body)
        except TransportClosedError:
            if not self._stopping:
                _logger.warning("task_watch_closed")
        finally:
            self._transport.close(Deadline(_CLOSING, self._clock))

    def _take(self, body: dict[str, Any]) -> None:
        try:
            event = TaskEvent.of(body)
        except InvalidMessageError as error:
            _logger.debug("task_watch_refused", extra={"reason": error.reason})
            return
        if not self._order.takes(event):
            return
        called = [self._callbacks[kind] for kind in kinds_of(event) if kind in self._callbacks]
        with self._lock:
            kick = not self._stopping and self._queue.add([(callback, event) for callback in called])
        if kick:
            self._queue.kick()
        elif self._order.is_over:
            self._settle()

    def _settle(self) -> None:
        """Let the callback threads go once the end was told."""
        with self._lock:
            is_over = self._order.is_over and self._queue.is_idle()
        if is_over:
            self._pool.stop()


class _Given:
    """Be the grants of a client that somebody else keeps: its token of now, whichever that is."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def token(self) -> str | None:
        """Return the client's token."""
        return given_token(self._client)

    def refresh(self, refused: str | None) -> bool:
        """Tell whether the client was given another one."""
        return given_token(self._client) != refused
