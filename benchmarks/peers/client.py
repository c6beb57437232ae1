"""Be the client of one product: read a workload a line, run it, answer with a line of JSON.

`python -m peers.client NAME`. It is a process of its own, in the product's environment, so that its CPU time
is its own. Every result is compared with what was sent.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

from peers import blocking, looping


def main() -> None:
    """Answer the harness until it closes the pipe."""
    # What a library prints is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    made = importlib.import_module(f"peers.{sys.argv[1]}").Client()
    workloads = workloads_of(made)
    print(json.dumps({"batch": made.BATCH}), file=answers, flush=True)
    for line in sys.stdin:
        name, _, count = line.strip().partition(" ")
        start = time.perf_counter()
        try:
            answer = getattr(workloads, name)(int(count or 1))
        except Exception as error:  # noqa: BLE001 - told to the harness, which marks the run as failed
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        answer.setdefault("seconds", time.perf_counter() - start)
        print(json.dumps(answer), file=answers, flush=True)
    workloads.close()


def workloads_of(made: Any) -> Any:
    """Return what can be run with a client: its own choice, else by how its calls are made."""
    if hasattr(made, "workloads"):
        return made.workloads()
    return looping.Workloads(made) if hasattr(made, "aopen") else blocking.Workloads(made)


if __name__ == "__main__":
    main()
