"""The durable steps of one run: what is stored, and what the hub has not yet answered.

Pure, and guarded by the lock of the outbox that it is part of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from blocks_worker.protocol.steps import REPORT_STEPS, Step

if TYPE_CHECKING:
    from collections.abc import Sequence


class StepBox:
    """Keep each value until the hub has said what is stored under its name, and that from then on."""

    def __init__(self) -> None:
        self._stored: dict[str, bytes] = {}
        self._waiting: dict[str, bytes] = {}
        self._refused: set[str] = set()

    @property
    def count(self) -> int:
        """How many there are, stored or not."""
        return len(self._stored) + len(self._waiting)

    @property
    def are_waiting(self) -> bool:
        """Tell whether some are not answered."""
        return bool(self._waiting)

    def know(self, steps: Sequence[Step]) -> None:
        """Take over what runs before stored."""
        for step in steps:
            self._stored[step.name] = bytes(step.value)

    def add(self, name: str, value: bytes) -> None:
        """Take a value to be stored; of two under one name the first goes."""
        if name not in self._stored:
            self._waiting.setdefault(name, value)

    def stored(self, name: str) -> bytes | None:
        """Return what is stored under the name, as far as it is known."""
        return self._stored.get(name)

    def was_refused(self, name: str) -> bool:
        """Tell whether the hub has answered without storing it."""
        return name in self._refused

    def take(self, start: int, room: int) -> tuple[list[Step], int]:
        """Return what waits from that place on, at most `room` bytes or one, and its bytes."""
        taken: list[Step] = []
        size = 0
        for name, value in list(self._waiting.items())[start : start + REPORT_STEPS]:
            if taken and size + len(value) > room:
                break
            size += len(value)
            taken.append(Step(name=name, value=msgspec.Raw(value)))
        return taken, size

    def remain(self, taken: int) -> bool:
        """Tell whether more wait than so many."""
        return len(self._waiting) > taken

    def answered(self, sent: Sequence[Step], stored: Sequence[Step]) -> None:
        """Take note of what the hub has under the names that were sent."""
        self.know(stored)
        for step in sent:
            self._waiting.pop(step.name, None)
            if step.name not in self._stored:
                self._refused.add(step.name)

    def drop(self) -> None:
        """Let go of what waits: nobody will send it any more."""
        self._waiting.clear()
