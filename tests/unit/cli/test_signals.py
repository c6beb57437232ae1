import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import FakeClock

from blocks_worker.cli.signals import ECHO, Signals

TESTS = Path(__file__).parents[2]

_THREE = """
import os, signal
from blocks_worker.cli.signals import ECHO, Signals
from support import FakeClock
clock = FakeClock()
signals = Signals(clock)
signals.install()
for _ in range(3):
    os.kill(os.getpid(), signal.SIGTERM)
    print(signals.heard.get(), flush=True)
    clock.advance(ECHO)
"""

_EARLY = """
import os, signal, sys
from blocks_worker.cli.signals import Signals
signals = Signals()
signals.end_at_once()
signals.install()
if sys.argv[1:]:
    signals.begin()
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(3)
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
    ended = subprocess.run(
        [sys.executable, "-c", _THREE], cwd=TESTS, capture_output=True, text=True, timeout=100, check=False
    )

    assert (ended.returncode, ended.stdout.count("SIGTERM")) == (130, 2)
    assert ended.stderr == "blocks-run: SIGTERM received a third time: ended at once\n"


@pytest.mark.parametrize(("begins", "code"), [(False, 0), (True, 3)])
def test_a_signal_before_the_beginning_ends_the_process(begins: bool, code: int) -> None:
    """[D3] Until something is there to take down the first signal ends the process, and after that it is told."""
    ended = subprocess.run(
        [sys.executable, "-c", _EARLY, *["begin"] * begins], cwd=TESTS, capture_output=True, timeout=100, check=False
    )

    assert ended.returncode == code
    assert (b"SIGTERM received before the start was done: stopped" in ended.stderr) is not begins


def test_stacks_that_are_asked_for_often_wait_once() -> None:
    """[D8] The signal that asks for stacks fills no queue."""
    signals = Signals()
    for _ in range(1000):
        signals.want_stacks()

    assert signals.heard.qsize() == 1


def test_an_echo_of_a_signal_does_not_count() -> None:
    """What `timeout` sends twice within milliseconds is one signal; half a second later the next one counts."""
    clock = FakeClock()
    signals = Signals(clock)
    signals.install()
    for pause in (0.0, 0.01, ECHO - 0.02, 0.01):
        clock.advance(pause)
        os.kill(os.getpid(), signal.SIGTERM)

    assert signals.count == 2
