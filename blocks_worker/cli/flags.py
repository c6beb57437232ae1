"""What the command line of `blocks-run` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the command line says; None leaves it to the environment, the card or the registry."""

    handler: str | None = None
    registry: Path | None = None
    card: Path | None = None
    concurrency: int | None = None
    instance_id: str | None = None
    drain_timeout: float | None = None
    log_level: str | None = None
    log_format: str | None = None
    health_port: int | None = None
    no_local: bool = False
    check: bool = False
