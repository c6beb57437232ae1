"""What every test stands on: a clean environment, and tests that take long only on request."""

import gc
import itertools
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from blocks_worker.observability.logs import FOREIGN

# Each of the processes that share the tests, and each that they start, would else compile every file anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Who is started in the background is deaf to Ctrl-C, and so would be all that he starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast a machine draws examples says nothing about the code.
settings.register_profile("short", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("short"), max_examples=250)
settings.load_profile("short")


# What is imported and collected lives to the end: neither now nor later is it searched for garbage.
gc.disable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Leave half characters out of what was caught: tests log some, and no report with one gets to its reader."""
    report = yield
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--long``."""
    parser.addoption("--long", action="store_true", help="run what takes long too")


def pytest_configure(config: pytest.Config) -> None:
    """Draw more examples where there is time."""
    if config.getoption("--long"):
        settings.load_profile("long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the long tests unless they were asked for."""
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="takes long: run with --long")
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Look for garbage in what the tests make only."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def state_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give paths below which there is nothing yet: most tests never make theirs."""
    parent = tmp_path_factory.mktemp("states")
    return (parent / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, state_folders: Iterator[Path]) -> None:
    """Give each test an empty state folder, none of the user's own settings, and nobody to trust over TLS.

    To read the root certificates of the world takes each client of the SDK 20 ms, and no test goes there.
    `TEST_TRANSPORT` in the environment has all tests speak by another transport than the usual one.
    """
    for name in list(os.environ):
        if name.startswith(("BLOCKS_", "STREAM_", "ARTIFACT_", "AGENT_")) or name == "LOG_LEVEL":
            monkeypatch.delenv(name)
    if os.environ.get("TEST_TRANSPORT"):
        monkeypatch.setenv("BLOCKS_TRANSPORT", os.environ["TEST_TRANSPORT"])
    folder = next(state_folders)
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(folder))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(folder.parent))


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Give logging back as it was: a program that a test starts in this process sets it up."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in FOREIGN:
        logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger(name).filters.clear()
