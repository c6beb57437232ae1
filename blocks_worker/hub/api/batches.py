"""One item or many by the same door: each item of a batch is decoded, written and answered by itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.api.calls import Answer, answered
from blocks_worker.hub.api.coming import Coming
from blocks_worker.hub.problems import INTERNAL, UNAVAILABLE, RefusalError, as_refusal, later
from blocks_worker.hub.store.sets import LoopAnswer
from blocks_worker.hub.task_service import Reply
from blocks_worker.protocol import codec
from blocks_worker.protocol.tasks import MAX_BATCH, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.sets import Answer as StoreAnswer
    from blocks_worker.hub.store.store import Store

_logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Told = TypeVar("Told", bound="StoreAnswer")


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
    codec.check_size(body)
    try:
        # Each is looked at by itself, for many together look deeper than any.
        raws = codec.decode_trusted(list[msgspec.Raw], body)
    except InvalidMessageError:
        codec.inspect(body)  # it may know why more exactly
        raise
    if len(raws) > MAX_BATCH:
        raise InvalidMessageError("batch", f"{len(raws)} items are more than the {MAX_BATCH} of one batch")
    items: list[Item | InvalidMessageError] = []
    for raw in raws:
        try:
            items.append(codec.decode(kind, bytes(raw)))
        except InvalidMessageError as error:
            items.append(error)
    return True, items


class Writes(NamedTuple):
    """Be where doors write, and what takes their answers to the loop."""

    store: Store
    hand: Callable[..., object]


def put_items(
    writes: Writes, items: Sequence[Work | InvalidMessageError], *, many: bool, is_new: bool = False
) -> Coming:
    """Write all items in one commit where there is room, and give the answer: of one item, or of each in order.

    `is_new`: they bring new work, which a ledger that is too busy turns away.
    """
    coming = Coming(writes.hand, lambda results: answer_items(_replies(items, results), many=many))
    return _put(writes.store, items, coming, is_new=is_new)


async def write_items(store: Store, items: Sequence[Work]) -> list[Reply]:
    """Do as `put_items`, and return the replies."""
    return _replies(items, await _put(store, items, LoopAnswer()).future)


def answer_items(replies: Sequence[Reply], *, many: bool) -> Answer:
    """Return one reply as it is, or a list of all with the status of each.

    A batch of which the ledger could take nothing is refused whole: it is to be repeated.
    """
    if not many or (
        replies and replies[0].status == UNAVAILABLE and all(each.status == UNAVAILABLE for each in replies)
    ):
        return _single(replies[0])
    return Answer(_OK, codec.encode(replies))


def _put(store: Store, items: Sequence[Work | InvalidMessageError], answer: Told, *, is_new: bool = False) -> Told:
    """Put to the store what can be; the answer gets what came of that, in order."""
    acts, about = [], []
    for item in items:
        if not isinstance(item, InvalidMessageError):
            acts.append(item.act)
            about.append(item.about)
    return store.put(acts, about, answer, is_new=is_new)


def _replies(items: Sequence[Work | InvalidMessageError], results: Sequence[Reply | Exception]) -> list[Reply]:
    """Return the reply of each item, also of those that were not even put to the store."""
    written = iter(results)
    replies = []
    for item in items:
        result = item if isinstance(item, InvalidMessageError) else next(written)
        replies.append(refused_item(result) if isinstance(result, Exception) else result)
    return replies


def _single(reply: Reply) -> Answer:
    answer = answered(reply)
    if reply.status != UNAVAILABLE:
        return answer
    details = reply.body.details if isinstance(reply.body, Problem) else None
    return Answer(answer.status, answer.body, later(details))


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
