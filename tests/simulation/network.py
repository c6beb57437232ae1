"""What lies between the parts: calls that are lost or late, and a bus that loses, doubles and delays."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulation.heap import Owner
    from simulation.world import World

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.transaction import Publication

Answers = list[Any] | None
#: Seconds until a caller gives a call up.
TIMEOUT = 5.0


class Network:
    """Carry calls to the hub and publications from it; every fault has a name of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._counts: dict[str, int] = defaultdict(int)
        self._listeners: dict[str, Callable[[dict[str, Any]], None]] = {}
        self.is_bus_dead = False

    def call(
        self,
        name: str,
        works: Sequence[Callable[[Ledger], Any]],
        then: Callable[[Answers], None],
        owner: Owner | None = None,
    ) -> None:
        """Call the hub; `then` gets its answers, or None when none came in time."""
        world, key = self._world, self._numbered(name)
        is_open = [True]

        def answered(answers: Answers) -> None:
            if is_open[0]:
                is_open[0] = False
                then(answers)

        def back(answers: Answers) -> None:
            if answers is None:  # refused at once: nobody is there
                world.heap.after(0.05, lambda: answered(None), owner)
            elif not world.happens("answer lost", 0.08, key):
                world.heap.after(self._delay("answer", key), lambda: answered(answers), owner)

        world.heap.after(TIMEOUT, lambda: answered(None), owner)
        if not world.happens("request lost", 0.08, key):
            world.heap.after(self._delay("request", key), lambda: world.hub_for(key).take(name, works, back))

    def _delay(self, what: str, key: str) -> float:
        if self._world.happens(f"{what} late", 0.05, key):
            return self._world.story.between(0, 7, what, key)
        return 0.003

    def listen(self, channel: str, hear: Callable[[dict[str, Any]], None]) -> None:
        """Hear what comes on a channel from now on."""
        self._listeners[channel] = hear

    def publish(self, publication: Publication) -> None:
        """Put a message on the bus."""
        world, channel = self._world, publication.channel
        if channel not in self._listeners:
            return
        key = self._numbered(f"bus {channel}")
        if self.is_bus_dead or world.happens("bus dropped", 0.15, key):
            return
        for copy in range(2 if world.happens("bus doubled", 0.15, key) else 1):
            late = world.happens("bus late", 0.15, key, copy)
            delay = world.story.between(0, 9, "bus", key, copy) if late else 0.002
            world.heap.after(delay, lambda: self._listeners[channel](json.loads(publication.message)))

    def _numbered(self, name: str) -> str:
        self._counts[name] += 1
        return f"{name} #{self._counts[name]}"
