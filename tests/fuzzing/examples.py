"""One good message for every type that travels, made from the type itself: a new one has its example at once."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import msgspec
from msgspec import inspect as types

import blocks_worker.protocol
from blocks_worker.protocol import codec
from blocks_worker.protocol.codec import Wire

_WORDS = {"^[0-9a-f]{64}$": "0" * 64}


def wires() -> list[type[Wire]]:
    """Return every struct of protocol/ that travels, by name."""
    for module in pkgutil.iter_modules(blocks_worker.protocol.__path__):
        importlib.import_module(f"blocks_worker.protocol.{module.name}")
    found: dict[str, type[Wire]] = {}
    waiting: list[type[Wire]] = [Wire]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if kind is not Wire and kind.__module__.startswith("blocks_worker.protocol."):
            found[f"{kind.__module__}.{kind.__qualname__}"] = kind
    return [found[name] for name in sorted(found)]


def example(kind: Any) -> bytes:
    """Return a good message of this type, with every field."""
    return msgspec.json.encode(_value(types.type_info(kind)))


def checked(kind: Any) -> bytes:
    """Return the same, after it was read."""
    made = example(kind)
    codec.decode(kind, made)
    return made


def _value(said: types.Type) -> Any:
    if isinstance(said, types.StructType):
        fields = {field.encode_name: _value(field.type) for field in said.fields}
        return fields if said.tag_field is None else {said.tag_field: said.tag, **fields}
    if isinstance(said, types.UnionType):
        known = [each for each in said.types if not isinstance(each, types.NoneType)]
        return _value(known[0]) if known else None
    if isinstance(said, types.LiteralType):
        return said.values[0]
    if isinstance(said, (types.ListType, types.CollectionType)):
        return [_value(said.item_type)] * max(1, said.min_length or 0)
    return _plain(said)


def _plain(said: types.Type) -> Any:
    if isinstance(said, types.TupleType):
        return [_value(each) for each in said.item_types]
    if isinstance(said, types.DictType):
        return {"key": _value(said.value_type)}
    if isinstance(said, types.BytesType):
        return "eA=="
    return _scalar(said)


def _scalar(said: types.Type) -> Any:
    if isinstance(said, types.StrType):
        return _WORDS[said.pattern] if said.pattern else "x" * max(said.min_length or 0, min(8, said.max_length or 8))
    if isinstance(said, types.IntType):
        return max(said.ge or 0, 1 if said.gt is None else said.gt + 1)
    if isinstance(said, types.FloatType):
        return 1.5
    if isinstance(said, types.BoolType):
        return True
    if isinstance(said, types.RawType):
        return {"type": "progress", "progress": 0.5}
    return {"any": ["thing", 1, None]}
