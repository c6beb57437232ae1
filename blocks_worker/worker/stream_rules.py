"""Which stream a handler may open: what it asks for, against what the card declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from blocks_worker.protocol.streams import NO_STREAM, Affinity, Direction, Format

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks_worker.protocol.declared import DeclaredStream

#: The stream of an agent that declares none, or names none of several.
DEFAULT = "_default"


@dataclass(frozen=True, kw_only=True)
class AskedStream:
    """What `ctx.create_stream` was given; None: not given."""

    direction: str | None = None
    format: str | None = None
    declared_stream: str | None = None
    external: bool = False


@dataclass(frozen=True, kw_only=True)
class ChosenStream:
    """What will be opened."""

    name: str
    direction: Direction
    format: Format
    affinity: Affinity
    external: bool
    declared: DeclaredStream | None

    @property
    def is_shared(self) -> bool:
        """Whether the process has one for all its tasks."""
        return self.affinity == "shared"


def choose(
    asked: AskedStream, declared: Mapping[str, DeclaredStream], *, task_kind: str, has_stream: bool
) -> ChosenStream:
    """Return the stream to open.

    Raises:
        RuntimeError: the task, the card or a rule does not allow it; the text names stream and rule.
    """
    if not has_stream:
        raise RuntimeError(f"{NO_STREAM}: test ctx.has_stream first")
    name = _name(asked.declared_stream, declared)
    found = declared.get(name)
    chosen = ChosenStream(
        name=name,
        direction=_given("direction", asked.direction, found.direction if found else None, "outbound", name),
        format=_given("format", asked.format, found.format if found else None, "bytes", name),
        affinity=_checked("affinity", found.affinity if found else "dedicated", name),
        external=asked.external,
        declared=found,
    )
    _check_kind(chosen, task_kind)
    return chosen


def values_stream(declared: Mapping[str, DeclaredStream], *, has_stream: bool) -> str | None:
    """Return which stream takes the values of a generator: the one of events that goes out and is the task's own.

    Of several it is ``_default``, if that is one of them; else none.
    """
    if not has_stream:
        return None
    if not declared:
        return DEFAULT
    fit = [
        name
        for name, one in declared.items()
        if (one.direction, one.format, one.affinity) == ("outbound", "events", "dedicated")
    ]
    return fit[0] if len(fit) == 1 else next((name for name in fit if name == DEFAULT), None)


def _name(asked: str | None, declared: Mapping[str, DeclaredStream]) -> str:
    if asked is not None:
        if asked not in declared and not (asked == DEFAULT and not declared):
            names = ", ".join(sorted(declared)) or "none"
            raise RuntimeError(f"the card declares no stream {asked!r}; declared: {names}")
        return asked
    if len(declared) == 1:
        return next(iter(declared))
    if DEFAULT in declared or not declared:
        return DEFAULT
    names = ", ".join(sorted(declared))
    raise RuntimeError(f"the card declares several streams: say which with declared_stream= one of {names}")


_ALLOWED: dict[str, tuple[Any, ...]] = {
    "direction": get_args(Direction),
    "format": get_args(Format),
    "affinity": get_args(Affinity),
}


def _given(what: str, asked: str | None, declared: str | None, usual: str, name: str) -> Any:
    """Return what was asked for, else what is declared, else the usual; the first two may not differ."""
    if asked is not None and declared is not None and asked != declared:
        raise RuntimeError(f"stream {name!r}: {what}={asked!r} contradicts the card, which declares {declared!r}")
    return _checked(what, asked or declared or usual, name)


def _checked(what: str, value: str, name: str) -> Any:
    if value not in _ALLOWED[what]:
        raise RuntimeError(f"stream {name!r}: {what} is one of {', '.join(_ALLOWED[what])}, not {value!r}")
    return value


def _check_kind(chosen: ChosenStream, task_kind: str) -> None:
    if chosen.is_shared and chosen.external:
        raise RuntimeError(f"stream {chosen.name!r}: a shared stream cannot be external")
    if task_kind == "pipe":
        return
    if chosen.direction != "outbound":
        raise RuntimeError(
            f"stream {chosen.name!r}: a request task has outbound streams only, this one is {chosen.direction}; "
            "take a pipe task"
        )
    if chosen.is_shared or chosen.external:
        raise RuntimeError(f"stream {chosen.name!r}: a request task has dedicated streams of its own process only")
