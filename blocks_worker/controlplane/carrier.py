"""What may carry calls to the hub in place of HTTP, while it is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Carried(Protocol):
    """Be what a hub answered to a call that something else than HTTP carried."""

    @property
    def status(self) -> int:
        """The status, as HTTP has it."""

    @property
    def body(self) -> bytes:
        """The body."""

    @property
    def retry_after(self) -> str | None:
        """The seconds after which to come again, where that was told."""


#: Carries a call with method, path, body, bearer and timeout; None: it is to be made over HTTP, and may have been
#: carried out already. `TimeoutError`: no answer came in time.
Carrier = Callable[[str, str, bytes | None, str | None, float], Carried | None]
