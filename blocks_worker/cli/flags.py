"""What the command line of `blocks-run` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the command line says; None leaves it to the environment, the card or the registry."""

    handler: str | None
    registry: Path | None
    card: Path | None
    concurrency: int | None
    instance_id: str | None
    drain_timeout: float | None
    log_level: str | None
    log_format: str | None
    health_port: int | None
    no_local: bool
    check: bool
