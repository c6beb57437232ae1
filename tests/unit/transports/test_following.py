"""What a subscription over a link says when a connection comes up."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from support import SeededEntropy

from blocks_worker.concurrency import Clock
from blocks_worker.transports.hublink.subscription import HubLinkSubscription


class Asking:
    """Be grants that ask the hub, whose answer the link's thread has to read first."""

    def __init__(self) -> None:
        self.answered = threading.Event()

    def token(self) -> str | None:
        """Wait for the answer."""
        return "renewed" if self.answered.wait(5) else "old"

    def refresh(self, refused: str | None) -> bool:
        """Have no other."""
        del refused
        return False


def test_the_thread_of_the_link_waits_for_no_grant() -> None:
    """It reads on, so that one that is asked for over this link comes; it is under that one that is followed."""
    grants, said, told = Asking(), threading.Event(), []

    def tell(_make: Any, token: str | None = None) -> bool:
        told.append(token)
        said.set()
        return True

    subscription = HubLinkSubscription(
        SimpleNamespace(new_number=lambda: 1, tell=tell),  # type: ignore[arg-type]
        lambda: SimpleNamespace(subscribe_key="key", user_id="me"),
        grants=grants,
        places={"c": 1},
        clock=Clock(),
        entropy=SeededEntropy(),
        counters={},
    )
    subscription.up()
    grants.answered.set()
    assert said.wait(10)

    assert told == ["renewed"]
