"""Rounds of the loop: order, one wake for what is handed over together, and what is done at their end."""

from __future__ import annotations

import asyncio
import threading

from blocks_worker.hub.rounds import Rounds


class _Counted:
    """Count how often a loop was called from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.calls = 0
        self._loop = loop

    def call_soon_threadsafe(self, act: object) -> None:
        """Pass a call on."""
        self.calls += 1
        self._loop.call_soon_threadsafe(act)  # type: ignore[arg-type]


def test_what_is_handed_over_together_is_one_call_of_the_loop_and_ends_together() -> None:
    """Everything is done in order, then what it asked for at the end, and no error stops the rest."""
    done: list[str] = []

    async def run() -> int:
        rounds, loop = Rounds(), _Counted(asyncio.get_running_loop())
        rounds.start(loop)  # type: ignore[arg-type]

        def act(name: str) -> None:
            done.append(name)
            rounds.at_end(lambda: done.append(f"end of {name}"))
            if name == "b":
                raise ValueError(name)

        for name in ("a", "b", "c"):
            rounds.hand(act, name)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return loop.calls

    assert asyncio.run(run()) == 1
    assert done == ["a", "b", "c", "end of a", "end of b", "end of c"]


def test_the_loop_is_not_called_before_all_is_handed_over() -> None:
    """Whoever hands over several things calls it when he has; it would wake only to wait for him."""
    done: list[int] = []

    async def run() -> list[int]:
        rounds, loop = Rounds(), _Counted(asyncio.get_running_loop())
        rounds.start(loop)  # type: ignore[arg-type]
        calls = []
        for numbers in ((1, 2), ()):
            with rounds:
                for number in numbers:
                    rounds.hand(done.append, number)
                calls.append(loop.calls)
            calls.append(loop.calls)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return calls

    assert asyncio.run(run()) == [0, 1, 1, 1]
    assert done == [1, 2]


def test_the_end_comes_by_itself_where_nothing_was_handed_over() -> None:
    """What is asked for at the end, by it too, is done in the next turn of the loop, once."""
    done: list[str] = []

    async def run() -> None:
        rounds = Rounds()
        rounds.at_end(lambda: rounds.at_end(lambda: done.append("second")))
        rounds.at_end(lambda: done.append("first"))
        assert done == []
        await asyncio.sleep(0)

    asyncio.run(run())
    assert done == ["first", "second"]


def test_nothing_handed_over_is_lost_or_out_of_order() -> None:
    """However threads and loop come between each other, each thread's acts are done, in its order."""
    done: list[tuple[int, int]] = []
    count, threads = 3000, 3

    async def run() -> None:
        rounds, there = Rounds(), asyncio.Event()
        rounds.start(asyncio.get_running_loop())

        def hand(thread: int) -> None:
            for number in range(count):
                rounds.hand(done.append, (thread, number))

        workers = [threading.Thread(target=hand, args=(thread,)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            await asyncio.to_thread(worker.join)
        rounds.hand(there.set)
        await there.wait()

    asyncio.run(asyncio.wait_for(run(), 30))
    for thread in range(threads):
        assert [number for each, number in done if each == thread] == list(range(count))


def test_a_loop_that_is_over_does_nothing() -> None:
    """Whoever still has something for it is not stopped by that."""
    rounds = Rounds()
    rounds.hand(print, "never")
    loop = asyncio.new_event_loop()
    rounds.start(loop)
    loop.close()
    rounds.hand(print, "never")
