"""Play hostile messages and bent calls: ./scripts/fuzz --minutes 5 --seed 0; every crash is told with its bytes."""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fuzzing.api import Examined, examine
from fuzzing.calling import Calls
from fuzzing.decoding import Tally, call_off, message_of, play
from fuzzing.networked import networked
from fuzzing.targets import targets
from support_hub import running_hub

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuzzing.calling import Called
    from fuzzing.targets import Target

ROOT = Path(__file__).resolve().parents[2]
#: Messages that a reader is given at a time; the next ones go to whoever had the least time so far.
TURN = 250
#: A disk in memory, where there is one: files are written for each message.
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made there


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return 1 when anything went wrong."""
    asked = _asked(arguments)
    logging.disable(logging.WARNING)
    logging.getLogger().addHandler(logging.NullHandler())
    _say(f"seed {asked.seed}, commit {_commit()}")
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
        if asked.again:
            return _again(Path(place), asked.seed, asked.again)
        deadline = time.monotonic() + asked.minutes * 60
        tallies = _messages(Path(place), asked.seed, asked.messages, deadline)
        # The calls get a third of the time when no number bounds them.
        calls, examined = _calls(Path(place), asked, max(deadline, time.monotonic() + asked.minutes * 20))
    wrong = [str(crash) for tally in tallies for crash in tally.crashes]
    wrong += [fault for called in calls for fault in called.faults] + examined.faults
    _say("\n".join(["", *wrong]) if wrong else "nothing went wrong")
    return 1 if wrong else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="time for the messages, and for the calls at least a third"
    )
    parser.add_argument("--messages", type=int, default=10**9, help="stop the messages after so many")
    parser.add_argument("--calls", type=int, default=10**9, help="stop the calls after so many")
    parser.add_argument("--examples", type=int, default=20, help="examples of schemathesis for each operation")
    parser.add_argument("--again", metavar="TARGET:NUMBER", help="play one message again, and let what it raises out")
    return parser.parse_args(arguments)


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def _again(place: Path, seed: int, wanted: str) -> int:
    name, _, number = wanted.rpartition(":")
    nets, loop = networked(place)
    target = next(each for each in [*targets(place), *nets] if each.name == name)
    message = message_of(target, seed, int(number))
    _say(repr(message))
    try:
        target.feed(message)
    except target.refusals as refusal:
        _say(f"refused: {refusal!r}")
    finally:
        loop.close()
    return 0


def _messages(place: Path, seed: int, most: int, deadline: float) -> list[Tally]:
    """Give every reader the same time."""
    signal.signal(signal.SIGALRM, call_off)
    nets, loop = networked(place)
    readers = [*targets(place), *nets]
    tallies = {target.name: Tally(target.name) for target in readers}
    spent = dict.fromkeys(tallies, 0.0)
    left = most
    gc.freeze()
    while left > 0 and time.monotonic() < deadline:
        target = min(readers, key=lambda each: spent[each.name])
        begun = time.process_time()
        _join(tallies[target.name], _turn(target, seed, min(TURN, left), tallies[target.name].messages))
        spent[target.name] += time.process_time() - begun
        left -= TURN
    loop.close()
    _say(_table([*tallies.values()]))
    return [*tallies.values()]


def _turn(target: Target, seed: int, count: int, since: int) -> Tally:
    return play(target, seed, count, since=since, watched=True)


def _join(whole: Tally, part: Tally) -> None:
    whole.messages += part.messages
    whole.as_json += part.as_json
    whole.refused += part.refused
    whole.accepted += part.accepted
    whole.crashed += part.crashed
    whole.longest = max(whole.longest, part.longest)
    whole.crashes = [*whole.crashes, *part.crashes][:5]


def _calls(place: Path, asked: argparse.Namespace, deadline: float) -> tuple[list[Called], Examined]:
    folder = place / "hub"
    with running_hub(folder) as hub:
        calls = Calls(hub, folder, asked.seed)
        calls.play(asked.calls, deadline)
        examined = examine(hub, folder, examples=asked.examples, seed=asked.seed)
        lives = hub.ask("GET", "/livez").status == 200 and hub.ask("GET", "/readyz").status == 200
    told = [*calls.told.values()]
    _say(_table_of_calls(told, examined))
    if not lives:
        examined.faults.append("the hub did not live on")
    return told, examined


def _table(tallies: list[Tally]) -> str:
    whole = Tally("all")
    for tally in tallies:
        _join(whole, tally)
    head = f"{'target':28} {'messages':>9} {'valid JSON':>10} {'refused':>9} {'accepted':>9} {'longest ms':>10} crashes"
    lines = [
        f"{each.target:28} {each.messages:>9} {each.as_json:>10} {each.refused:>9} {each.accepted:>9} "
        f"{each.longest * 1000:>10.1f} {each.crashed:>7}"
        for each in [*tallies, whole]
    ]
    return "\n".join(["", head, *lines])


def _table_of_calls(calls: list[Called], examined: Examined) -> str:
    head = f"{'calls':28} {'number':>9} {'longest ms':>10} {'faults':>7}  answers"
    lines = [
        f"{each.kind:28} {each.calls:>9} {each.longest * 1000:>10.1f} {len(each.faults):>7}  "
        + " ".join(f"{status}:{number}" for status, number in sorted(each.statuses.items()))
        for each in [*calls, examined]
    ]
    whole = sum(each.calls for each in [*calls, examined])
    return "\n".join(["", head, *lines, f"{'all':28} {whole:>9}"])


if __name__ == "__main__":
    sys.exit(main())
