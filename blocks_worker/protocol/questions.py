"""Questions that a run puts to its consumer: what may be asked, and whether a value answers it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.cards import free_schema
from blocks_worker.protocol.codec import MAX_DEPTH, Wire, convert, encode, inspect
from blocks_worker.protocol.schemas import foreign_schema
from blocks_worker.protocol.tasks import MAX_SECONDS

#: Seconds for which a question is open unless told otherwise.
ASK_TIMEOUT = 600.0
#: Longest name of a question, in characters.
MAX_ASK_ID = 64
#: Questions that one task may ask over all its runs.
MAX_ASKS = 100
#: Bytes as JSON of a question with its schema.
MAX_QUESTION = 12 * 1024
#: Bytes as JSON of an answer. What is larger is stored as a file, and its id answered.
MAX_ANSWER = 16 * 1024
#: Values of an answer times those of the schema: so many looks are a fraction of a second of the hub's.
MAX_LOOKS = 20_000
#: Findings that are told.
_TOLD = 3


class Question(Wire, omit_defaults=False):
    """What is asked: `schema` is a JSON Schema that the answer has to fit, `timeout` seconds."""

    ask_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ASK_ID)]
    question: Annotated[str, msgspec.Meta(min_length=1)]
    schema: dict[str, Any] | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)] = ASK_TIMEOUT


def checked_question(fields: dict[str, Any]) -> Question:
    """Return the question that these fields make.

    Raises:
        InvalidMessageError: they make none; the text says what is wrong.
    """
    question = convert(Question, fields)
    size = len(encode(question))
    if size > MAX_QUESTION:
        text = f"a question has at most {MAX_QUESTION} bytes with its schema, not {size}: publish an artifact for more"
        raise InvalidMessageError("size", text)
    if question.schema is not None:
        found = free_schema().find(question.schema)
        if found:
            raise InvalidMessageError("shape", f"the schema of the question is none: {found[0]}")
    return question


def check_answer(schema: dict[str, Any] | None, data: bytes, value: Any) -> None:
    """Refuse what does not answer a question of this schema; `data` is the value as JSON.

    Raises:
        InvalidMessageError: too large, or not as the schema wants it; the text says where and why.
    """
    inspect(data, depth=MAX_DEPTH)
    if len(data) > MAX_ANSWER:
        text = f"an answer has at most {MAX_ANSWER} bytes, not {len(data)}: store a file and answer with its id"
        raise InvalidMessageError("size", text)
    if schema is None:
        return
    if _values(schema) * _values(value) > MAX_LOOKS:
        raise InvalidMessageError("size", "the answer has too many values to be held against its schema: send fewer")
    found = foreign_schema(schema).find(value)
    if found:
        more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        text = f"the answer does not fit the question: {'; '.join(map(str, found[:_TOLD]))}{more}"
        raise InvalidMessageError("answer", text)


def _values(value: Any) -> int:
    """Count a value and all that are inside it."""
    count = 0
    open_ones = [value]
    while open_ones:
        one = open_ones.pop()
        count += 1
        open_ones.extend(one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
    return count
