"""The answers that a test gives to what a handler asks: by the question's name, or in the order of the questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.questions import check_answer

if TYPE_CHECKING:
    from collections.abc import Sequence


class GivenAnswers:
    """Answer at once; a question for which there is no answer is one that nobody answered in time.

    Attributes:
        misfit: what an answer does not fit, for who gave it.
    """

    def __init__(self, given: Sequence[Any] | Mapping[str, Any] | None = None) -> None:
        if isinstance(given, (str, bytes)):
            raise TypeError(f"answers is a list of answers or a dict of them by ask_id, not {given!r}")
        self._named = dict(given) if isinstance(given, Mapping) else {}
        self._next = iter(() if given is None or isinstance(given, Mapping) else given)
        self.misfit: ValueError | None = None

    def to(self, fields: Mapping[str, Any]) -> msgspec.Raw | msgspec.UnsetType:
        """Return the answer to the question of this event, as JSON."""
        nothing = object()
        ask = fields["id"]
        value = self._named.get(ask, nothing) if self._named else next(self._next, nothing)
        if value is nothing:
            return msgspec.UNSET
        try:
            data = encode(value)
            check_answer(fields.get("schema"), data, msgspec.json.decode(data))
        except InvalidMessageError as error:
            self.misfit = ValueError(f"answers: the one to {ask} cannot be given: {error}")
            return msgspec.UNSET
        return msgspec.Raw(data)
