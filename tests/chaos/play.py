"""Break a whole system for some minutes and judge it: ./scripts/chaos --minutes 10 --tasks 10000 --seed 1."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaos.figures import Figures
from chaos.history import History, collect
from chaos.oracle import wrongs
from chaos.plan import Plan
from chaos.stage import staged
from chaos.storm import Storm

#: Wrong rows that are told; more would say the same.
MOST_TOLD = 40


def play(plan: Plan, folder: Path) -> History:
    """Play one run in an empty folder; return what it left."""
    with staged(plan, folder) as stage:
        if Storm(stage).blow():
            stage.close()
        else:
            sys.stderr.write("chaos: the consumers were not done in time\n")
        told = [stage.told(number) for number in range(plan.consumers)]
        kept = stage.state_dir.with_name("state-kept") if stage.has_disk else stage.state_dir
    return collect(plan, folder / "faults", folder / "runs", told, kept / "hub.sqlite3")


def report(history: History) -> int:
    """Print the table, and what was wrong; return 1 if anything was."""
    wrong = wrongs(history)
    plan = history.plan
    say = sys.stdout.write
    say(f"\nchaos: seed {plan.seed}, {plan.tasks} tasks, {plan.seconds:.0f} s, {plan.transport}\n")
    say(f"{Figures.of(history, wrong)}\n")
    for line in wrong[:MOST_TOLD]:
        say(f"  {line}\n")
    say(f"{len(wrong)} wrong; the same again: --seed {plan.seed}\n" if wrong else "no promise was broken\n")
    sys.stdout.flush()
    return 1 if wrong else 0


def main() -> int:
    """Play, print, judge."""
    parser = argparse.ArgumentParser(description="Break a whole system for some minutes and judge it.")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long things are broken")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--transport", choices=("pubnub", "hublink"), default="pubnub")
    parser.add_argument("--worker-every", type=float, default=2.0, help="seconds between two faults of workers")
    parser.add_argument("--hub-every", type=float, default=60.0, help="seconds between two kills of the hub")
    parser.add_argument("--only-kills", action="store_true", help="kill workers and hub, and break nothing else")
    parser.add_argument("--keep", type=Path, help="a folder, which is made, for all notes and logs")
    asked = parser.parse_args()
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    plan = Plan(
        seed=seed,
        tasks=asked.tasks,
        seconds=asked.minutes * 60,
        transport=asked.transport,
        worker_every=asked.worker_every,
        hub_every=asked.hub_every,
        only_kills=asked.only_kills,
        settle=max(180.0, asked.minutes * 60),
    )
    folder = asked.keep.absolute() if asked.keep else Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    code = report(play(plan, folder))
    if code == 0 and not asked.keep:
        shutil.rmtree(folder)
    else:
        sys.stdout.write(f"notes and logs: {folder}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
