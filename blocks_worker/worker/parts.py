"""A batch that the hub refuses whole: cut it until each item has its own answer, so that one spoils no other."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from blocks_worker.controlplane.api import ItemResult
from blocks_worker.errors import RpcError
from blocks_worker.protocol.tasks import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_logger = logging.getLogger(__name__)

#: What is wrong is in the body, and would be refused again; any other refusal is about the caller, or passes.
_CONTENT = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})

T = TypeVar("T")
Answer = TypeVar("Answer")


def answered_each(
    items: Sequence[T], send: Callable[[Sequence[T]], Sequence[ItemResult[Answer]]]
) -> list[ItemResult[Answer]]:
    """Send the items, in halves where they are refused whole; a single one that is refused has that as its answer.

    Raises:
        BlocksError: as `send`, when what is in the items is not to blame. All may be sent again.
    """
    try:
        return list(send(items))
    except RpcError as error:
        if error.status not in _CONTENT or not items:
            raise
        _logger.warning("batch_refused", extra={"items": len(items), "status": error.status, "error": str(error)})
        if len(items) == 1:
            return [ItemResult(error.status, None, Problem(code=error.code, message=error.rpc_message))]
    half = len(items) // 2
    return [*answered_each(items[:half], send), *answered_each(items[half:], send)]
