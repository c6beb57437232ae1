"""Publishes over a link that were sent ahead of their answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from support import SeededEntropy

from blocks_worker.concurrency import Clock, Deadline
from blocks_worker.protocol.link import Answer
from blocks_worker.transports.hublink.transport import HubLinkTransport


class Renewed:
    """Be grants of which each renewal brings another; `refused` are those that were thrown away."""

    def __init__(self) -> None:
        self.refused: list[str | None] = []

    def token(self) -> str:
        """Return the grant of now."""
        return f"g{len(self.refused)}"

    def refresh(self, refused: str | None) -> bool:
        """Have another one, if it is the one of now that was refused."""
        if refused == self.token():
            self.refused.append(refused)
        return True


class Strict:
    """Be a link to a hub that takes all grants but the first."""

    def start(self) -> None:
        """Be there."""

    def begin(self, _make: Any, token: str | None) -> Any:
        """Answer."""
        answer = Answer(1, 403 if token == "g0" else 200, b"null")  # type: ignore[arg-type]
        return SimpleNamespace(is_answered=True, answer=lambda _timeout: answer)


def test_only_the_grant_that_was_refused_is_renewed() -> None:
    """What was sent under the old one, and is refused after it was renewed, is sent again under the new one."""
    grants = Renewed()
    transport = HubLinkTransport(
        Strict(),  # type: ignore[arg-type]
        lambda: SimpleNamespace(subscribe_key="key", user_id="me"),
        grants=grants,
        producer="p",
        clock=Clock(),
        entropy=SeededEntropy(),
    )
    begun = [transport.begin("c", [{"number": number}], Deadline(30)) for number in range(3)]
    for each in begun:
        each.settle(Deadline(30))

    assert grants.refused == ["g0"]
