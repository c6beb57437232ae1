"""Tests of the agent: its handler by itself, and the whole system."""

import json
from pathlib import Path

from blocks_worker.testing import LocalStack, run_handler

from consumer import AGENT, ask
from handler import handler

CARD = json.loads((Path(__file__).parents[1] / "agent-card.json").read_text())


def test_it_greets_each_name() -> None:
    """The result has a line for each name, and the progress ends at 1."""
    run = run_handler(handler, "Ada Grace", card=CARD)

    assert run.text() == "Hello, Ada!\nHello, Grace!"
    assert run.progress == [0.5, 1.0]
    assert run.warnings == []


def test_it_stops_when_it_is_cancelled() -> None:
    """A cancel ends the task before all are greeted."""
    run = run_handler(handler, "Ada Grace Edsger", card=CARD, cancel_after=0)

    assert run.state == "canceled"
    assert run.progress == []


def test_it_needs_a_name() -> None:
    """A task without text fails with what is wrong with it."""
    run = run_handler(handler, card=CARD)

    assert (run.state, run.error_code) == ("failed", "invalid_input")


def test_the_consumer_gets_the_greeting() -> None:
    """Agent and consumer work together, over a hub and a network of this test's own."""
    with LocalStack({AGENT: {"handler": handler, "card": CARD}}) as stack:
        assert ask(stack.client, "Ada") == "Hello, Ada!"
