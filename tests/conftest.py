"""What every test stands on: a clean environment, and tests that take long only on request."""

import os

import pytest
from hypothesis import HealthCheck, settings

# How fast a machine draws examples says nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--long``."""
    parser.addoption("--long", action="store_true", help="run what takes long too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the long tests unless they were asked for."""
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="takes long: run with --long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each test an empty state folder and none of the user's own settings."""
    for name in list(os.environ):
        if name.startswith(("BLOCKS_", "STREAM_", "ARTIFACT_", "AGENT_")) or name == "LOG_LEVEL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path_factory.mktemp("state")))
