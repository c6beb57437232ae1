"""Measure what the scorecard says: ./scripts/soak recovery|cancel|drain|leaks|flat|idle|slots [--times N] …."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaos.idle import idle
from chaos.leaks import flat, leaks
from chaos.measures import cancel, drain, recovery
from chaos.slots import slots

#: What is measured, and how often unless told.
MEASURES = {
    "recovery": (recovery, 100),
    "cancel": (cancel, 200),
    "drain": (drain, 200),
    "leaks": (leaks, 100_000),
    "flat": (flat, 20_000),
    "idle": (idle, 30),
    "slots": (slots, 50_000),
}


def main() -> int:
    """Measure, print; exit 1 when a goal was not kept."""
    parser = argparse.ArgumentParser(description="Measure what the scorecard says.")
    parser.add_argument("what", choices=sorted(MEASURES))
    parser.add_argument(
        "--times",
        type=int,
        help="how often; leaks, flat: tasks; idle: seconds; slots: tasks that fail",
    )
    parser.add_argument("--transport", choices=("pubnub", "hublink"), default="pubnub")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    measure, usual = MEASURES[asked.what]
    times = asked.times or usual
    begun, kept = time.monotonic(), True
    for row in measure(times, asked.transport, asked.seed):
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
        kept &= row.is_kept
    took = time.monotonic() - begun
    sys.stdout.write(f"{asked.what}, {times} times, {asked.transport}, seed {asked.seed}: {took:.0f} s\n")
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
