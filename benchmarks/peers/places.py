"""What the harness tells a peer's worker and client through the environment."""

from __future__ import annotations

import os

#: Where its tasks are kept.
URL = os.environ.get("BENCH_URL", "")
#: Where its results are kept: in the same place, unless told otherwise.
RESULTS = os.environ.get("BENCH_RESULTS", URL)
#: A task is acknowledged after it ran, where the product can.
IS_DURABLE = os.environ.get("BENCH_DURABLE") == "1"
#: Threads of a worker, and callers of the workload that has several.
THREADS = 8
#: Seconds that a result may take.
TIMEOUT = 60
