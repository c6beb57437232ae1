"""What a start would find wrong, as values: each with its place and its cure. No network is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from blocks_worker.cli.choosing import chosen
from blocks_worker.concurrency import Entropy
from blocks_worker.errors import BlocksError, CardError
from blocks_worker.runtime.card_notes import NOT_ENCRYPTED
from blocks_worker.runtime.options import plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocks_worker.cli.flags import Flags
    from blocks_worker.config import WorkerConfig
    from blocks_worker.protocol.cards import CardFinding
    from blocks_worker.runtime.options import InstancePlan

#: What the checks of a start and the loading of a user's module raise.
ERRORS = (BlocksError, ImportError, AttributeError, TypeError, ValueError, OSError, RuntimeError)


@dataclass(frozen=True)
class Found:
    """One finding.

    Attributes:
        level: an error stops a start; a warning is told there; a note is only to be known.
        where: card, handler, environment or hub.
        path: the key, in a card.
    """

    level: Literal["error", "warning", "note"]
    where: str
    text: str
    cure: str = ""
    path: str = ""

    def __str__(self) -> str:
        said = ": ".join(part for part in (self.where, self.path, self.text) if part)
        return f"{said}; {self.cure}" if self.cure else said


def findings_of_start(flags: Flags, config: WorkerConfig) -> tuple[list[Found], InstancePlan | None]:
    """Return what a start with these flags would find, and its plan when there is one."""
    try:
        planned = plan(chosen(flags, config), Entropy())
    except CardError as error:
        return [_of_card(finding) for finding in error.findings], None
    except ERRORS as error:
        return [of_error("handler", error)], None
    found = [_of_card(finding) for finding in planned.findings.all]
    if planned.declared.declares_encryption:
        found.append(Found("note", "card", NOT_ENCRYPTED, "encrypt them in the handler", "security.encryption"))
    return [*found, *_key(config)], planned


def of_error(where: str, error: BaseException) -> Found:
    """Return the finding that an exception of ours is: what is wrong, and behind the last semicolon what to do."""
    text = str(error) or type(error).__name__
    said, _, cure = text.rpartition("; ")
    return Found("error", where, said or text, cure if said else "")


def _of_card(finding: CardFinding) -> Found:
    return Found("error" if finding.is_error else "warning", "card", finding.text, finding.cure, finding.where)


def _key(config: WorkerConfig) -> Iterable[Found]:
    connection = config.connection
    if connection.api_key is None and not connection.is_local:
        cure = "set it to the key that the hub's owner gave you"
        yield Found("error", "environment", "BLOCKS_API_KEY is not set", cure)
