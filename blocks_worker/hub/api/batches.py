"""One item or many by the same door: each item of a batch is decoded, written and answered by itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.api.calls import Answer, answered
from blocks_worker.hub.problems import INTERNAL, UNAVAILABLE, RefusalError, as_refusal, later
from blocks_worker.hub.store.sets import LoopAnswer
from blocks_worker.hub.task_service import Reply
from blocks_worker.protocol import codec
from blocks_worker.protocol.tasks import MAX_BATCH, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.store import Store

_logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Work(NamedTuple):
    """What is done with one item inside a transaction, maybe twice, and the id of the task that it is about."""

    about: str
    act: Callable[[Ledger], Reply]


_OK = 200


async def written(store: Store, work: Callable[[Ledger], Result]) -> Result:
    """Return what the work returned once it is committed, or raise what it raised."""
    return cast("Result", await store.put([work], [None], LoopAnswer(), is_one=True).future)


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
    acts, about = [work.act for work in works], [work.about for work in works]
    replies: Iterator[Reply | Exception] = iter(await store.put(acts, about, LoopAnswer(), is_new=are_new).future)
    return [_replied(item if isinstance(item, InvalidMessageError) else next(replies)) for item in items]


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
    details = reply.body.details if isinstance(reply.body, Problem) else None
    return Answer(answer.status, answer.body, later(details))


def _decoded(kind: type[Item], raw: msgspec.Raw) -> Item | InvalidMessageError:
    try:
        return codec.decode(kind, bytes(raw))
    except InvalidMessageError as error:
        return error


def _replied(result: Reply | Exception) -> Reply:
    return refused_item(result) if isinstance(result, Exception) else result


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
