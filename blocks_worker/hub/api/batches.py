"""One item or many by the same door: each item of a batch is decoded, written and answered by itself."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.api.calls import Answer, answered
from blocks_worker.hub.problems import INTERNAL, UNAVAILABLE, RefusalError, as_refusal
from blocks_worker.hub.task_service import Reply
from blocks_worker.protocol import codec
from blocks_worker.protocol.tasks import MAX_BATCH, Problem

if TYPE_CHECKING:
    from concurrent.futures import Future

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.store import Store

_logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

#: What is done with one item inside a transaction.
Work = Callable[["Ledger"], Reply]

_OK = 200


async def written(store: Store, work: Callable[[Ledger], Result]) -> Result:
    """Return what the work returned once it is committed, or raise what it raised."""
    (future,) = await settled([store.write(work)])
    return future.result()


async def settled(futures: Sequence[Future[Result]]) -> Sequence[Future[Result]]:
    """Wait for all of them on the loop, which is woken once however many there are."""
    loop = asyncio.get_running_loop()
    everyone = loop.create_future()
    done = itertools.count(1)

    def wake() -> None:
        if not everyone.done():
            everyone.set_result(None)

    def one_done(_future: Future[Result]) -> None:
        if next(done) == len(futures):
            loop.call_soon_threadsafe(wake)

    for future in futures:
        future.add_done_callback(one_done)
    if futures:
        await everyone
    return futures


def items_of(kind: type[Item], body: bytes) -> tuple[bool, list[Item | InvalidMessageError]]:
    """Return whether a batch was sent, and its items; one that is not what it should be stands as the reason."""
    if not body.lstrip().startswith(b"["):
        return False, [codec.decode(kind, body)]
    raws = _apart(body)
    if len(raws) > MAX_BATCH:
        raise InvalidMessageError("batch", f"{len(raws)} items are more than the {MAX_BATCH} of one batch")
    return True, [_decoded(kind, raw) for raw in raws]


def _apart(body: bytes) -> list[msgspec.Raw]:
    """Return the items of a batch as they came: each is looked at by itself, for many together look deeper than any."""
    codec.check_size(body)
    try:
        return codec.decode_trusted(list[msgspec.Raw], body)
    except InvalidMessageError:
        codec.inspect(body)  # it may know why more exactly
        raise


async def write_items(
    store: Store, items: Sequence[Work | InvalidMessageError], *, are_new: bool = False
) -> list[Reply]:
    """Write all items in one commit where there is room; each gets its own reply, in order.

    `are_new`: they bring new work, which a ledger that is too busy turns away.
    """
    works = [item for item in items if not isinstance(item, InvalidMessageError)]
    futures = iter(await settled(store.write_many(works, is_new=are_new)))
    return [
        refused_item(item) if isinstance(item, InvalidMessageError) else _replied(next(futures))  # one future a work
        for item in items
    ]


def answer_items(replies: Sequence[Reply], *, many: bool) -> Answer:
    """Return one reply as it is, or a list of all with the status of each.

    A batch of which the ledger could take nothing is refused whole: it is to be repeated.
    """
    if not many:
        return _single(replies[0])
    if replies and all(reply.status == UNAVAILABLE for reply in replies):
        return _single(replies[0])
    parts = [b'{"status":%d,"body":%b}' % (reply.status, codec.encode(reply.body)) for reply in replies]
    return Answer(_OK, b"[%b]" % b",".join(parts))


def _single(reply: Reply) -> Answer:
    answer = answered(reply)
    if reply.status != UNAVAILABLE:
        return answer
    return Answer(answer.status, answer.body, (("retry-after", "1"),))


def _decoded(kind: type[Item], raw: msgspec.Raw) -> Item | InvalidMessageError:
    try:
        return codec.decode(kind, bytes(raw))
    except InvalidMessageError as error:
        return error


def _replied(future: Future[Reply]) -> Reply:
    error = future.exception()
    return future.result() if error is None else refused_item(error)


def refused_item(error: BaseException) -> Reply:
    """Return the reply for an item that failed by itself."""
    refusal = as_refusal(error)
    if refusal is not None:
        return Reply(refusal.status, refusal.problem)
    _logger.error("item_failed", exc_info=error)
    return Reply(INTERNAL, Problem(code="Internal", message="the hub failed at this item; its log tells more"))


def refusal_of(reply: Reply) -> RefusalError:
    """Return a service's refusal as an error: raised inside a write it undoes what was written with it."""
    if not isinstance(reply.body, Problem):
        raise TypeError("only a refusal can be raised")
    problem = reply.body
    return RefusalError(reply.status, problem.code, problem.message, details=problem.details)
