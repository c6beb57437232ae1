"""What a start would find wrong, as values: each with its place and its cure. No network is used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from blocks_worker.cli.choosing import check_apart, chosen
from blocks_worker.concurrency import Entropy
from blocks_worker.errors import BlocksError, CardError, CardFileError, ConfigurationError
from blocks_worker.runtime.card_notes import NOT_ENCRYPTED
from blocks_worker.runtime.options import plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


def findings_of_start(
    flags: Flags, config: WorkerConfig, *, env: Mapping[str, str] | None = None
) -> tuple[list[Found], InstancePlan | None]:
    """Return what a start with these flags would find, and its plan when there is one.

    `env`: where it looks for what handlers need; None: the environment.
    """
    try:
        planned = plan(chosen(flags, config, env=env), Entropy())
    except CardError as error:
        return [_of_card(finding) for finding in error.findings], None
    except CardFileError as error:
        return [of_error("card", error)], None
    except ERRORS as error:
        return [of_error("handler", error)], None
    found = [_of_card(finding) for finding in planned.findings.all]
    if planned.declared.declares_encryption:
        found.append(Found("note", "card", NOT_ENCRYPTED, "encrypt them in the handler", "security.encryption"))
    return [*found, *_key(config)], planned


def findings_of_starts(flags: Sequence[Flags], config: WorkerConfig) -> tuple[list[Found], list[InstancePlan]]:
    """Return what a start of all these in one process would find, each once, and the plans that there are."""
    found: dict[Found, None] = {}
    plans: list[InstancePlan] = []
    named: list[tuple[str, str]] = []
    for each in flags:
        its, planned = findings_of_start(each, config)
        found.update(dict.fromkeys([placed(one, each) for one in its] if len(flags) > 1 else its))
        if planned is not None:
            plans.append(planned)
            named.append((each.handler or "", planned.agent_name))
    try:
        check_apart(named)
    except ConfigurationError as error:
        found[of_error("", error)] = None
    return list(found), plans


def placed(finding: Found, flags: Flags) -> Found:
    """Name the handler whose card or code the finding is about: there may be several."""
    if finding.where == "environment":
        return finding
    of = f"handler {flags.handler!r}" if finding.where == "handler" else f"{finding.where} of {flags.handler!r}"
    return replace(finding, where=of)


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
