"""What every test of a command stands on: logging is given back as it was."""

import logging
from collections.abc import Iterator

import pytest

from blocks_worker.observability.logs import FOREIGN


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Give logging back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in FOREIGN:
        logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger(name).filters.clear()
