"""One writer as a reader of its stream knows it."""

from __future__ import annotations

from blocks_worker.streams.order import Order
from blocks_worker.streams.reader import Joiner


class Heard:
    """Hold what came of one writer, and what the writer was told of it."""

    def __init__(self, first: int | None, patience: float) -> None:
        self.order = Order(first=first, patience=patience)
        self.joiner = Joiner()
        #: All frames below were told as taken.
        self.told = first or 0
        self.taken_bytes = 0
