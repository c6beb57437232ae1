"""What the start log says of a card."""

from __future__ import annotations

from typing import Any

import pytest
from support import SeededEntropy

from blocks_worker.runtime.card_notes import log_card
from blocks_worker.runtime.options import options_of, plan

CARD: dict[str, Any] = {"identity": {"agentName": "carded", "displayName": "C", "description": "d", "version": "1"}}


def logged(caplog: pytest.LogCaptureFixture, card: dict[str, Any] | None) -> list[tuple[str, str, dict[str, Any]]]:
    """Return level, event and fields of what is said at a start with this card."""
    options = options_of({"agent_name": "carded", "handler": lambda task: task, "card": card})
    with caplog.at_level("INFO", "blocks_worker"):
        log_card(plan(options, SeededEntropy(1)))
    return [(record.levelname, record.message, record.__dict__) for record in caplog.records]


def test_encryption_that_does_not_happen_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """[R-63] Who declares encryption reads in the start log that payloads are not encrypted."""
    ((level, event, fields),) = logged(caplog, {**CARD, "security": {"encryption": {"supported": True}}})

    assert (level, event) == ("WARNING", "payloads_not_encrypted")
    assert "payloads are NOT encrypted" in fields["reason"]


def test_what_could_be_better_in_a_card_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """[D-4] Unknown keys and missing descriptions are warnings with path and cure, and the start goes on."""
    found = logged(caplog, {"identity": {"agentName": "carded", "displayName": "C", "description": "d"}, "bogus": 1})

    assert [(level, event) for level, event, _ in found] == [("WARNING", "card_warning")] * 2
    assert [fields["cure"] for _, _, fields in found] == ["mend its name, or take it out: nothing reads it", "add it"]


@pytest.mark.parametrize("card", [None, {}])
def test_a_card_that_was_made_is_told_once(caplog: pytest.LogCaptureFixture, card: dict[str, Any] | None) -> None:
    """[D-4] A start without a card says in one line that one was made."""
    assert [(level, event) for level, event, _ in logged(caplog, card)] == [("INFO", "card_made")]


def test_a_sound_card_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of a card that has everything."""
    assert logged(caplog, CARD) == []
