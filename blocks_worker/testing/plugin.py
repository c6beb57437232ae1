"""The plugin for pytest, which loads it where both are installed: the fixture `local_stack`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.testing.stack import LocalStack


@pytest.fixture
def local_stack() -> Iterator[Callable[..., LocalStack]]:
    """Give a function that starts a `LocalStack`, with the same arguments; all end with the test."""
    with ExitStack() as opened:

        def start(handlers: object, *, drain_timeout: float = 1.0) -> LocalStack:
            from blocks_worker.testing.stack import LocalStack

            return opened.enter_context(LocalStack(handlers, drain_timeout=drain_timeout))

        yield start
