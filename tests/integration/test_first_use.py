"""What several threads meet at the same moment, for the first time in a process."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import threading

from blocks_worker.protocol.codec import Wire, convert, decode

FIELDS = "\\n".join(f"    f{number}: 'dict[str, Leaf] | list[Leaf] | None' = None" for number in range(12))
CODE = f"class Leaf(Wire):\\n    a: int\\nclass Root(Wire):\\n    leaf: Leaf\\n{FIELDS}"


def act(kind, start, reads):
    start.wait()
    assert (decode(kind, b'{"leaf":{"a":1}}') if reads else convert(kind, {"leaf": {"a": 1}})).leaf.a == 1


sys.setswitchinterval(1e-6)
for number in range(40):
    scope = {"Wire": Wire, "__name__": __name__}
    exec(CODE, scope)
    globals().update(scope)
    start = threading.Barrier(4)
    threads = [threading.Thread(target=act, args=(scope["Root"], start, bool(one % 2))) for one in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("whole")
"""


def test_a_kind_of_message_may_be_read_first_by_several_threads_at_once() -> None:
    """[R-61] Instances that start side by side read the same kinds at the same moment, and the process lives."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "whole\n", "")
