import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from blocks_worker.cli.signals import Signals

_THREE = """
import os, signal
from blocks_worker.cli.signals import Signals
signals = Signals()
signals.install()
for _ in range(3):
    os.kill(os.getpid(), signal.SIGTERM)
    print(signals.heard.get(), flush=True)
"""


@pytest.fixture(autouse=True)
def restored_signals() -> Iterator[None]:
    """Give both signals back."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_told_by_name(number: signal.Signals) -> None:
    """[2.13] The first signal ends nothing: it is an entry for the main thread."""
    signals = Signals()
    signals.install()
    os.kill(os.getpid(), number)

    assert signals.heard.get(timeout=5) == ("signal", number.name)


def test_the_third_ends_the_process() -> None:
    """[2.13] The third signal is exit 130, whatever the main thread does."""
    ended = subprocess.run([sys.executable, "-c", _THREE], capture_output=True, text=True, timeout=30, check=False)

    assert (ended.returncode, ended.stdout.count("SIGTERM")) == (130, 2)
