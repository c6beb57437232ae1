"""Whether every variable that looks like one of ours is read by somebody."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from blocks_worker import quotas
from blocks_worker.cli.findings import Found
from blocks_worker.cli.output import UNREAD_CURE, counted
from blocks_worker.config import VARIABLES
from blocks_worker.env_file import load_dotenv

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

#: What a slip leaves of our prefix.
_PREFIXES = ("BLOCK", "BLCOKS", "BOCKS", "BLOKCS")


def dotenv() -> Iterator[Found]:
    """Take what ``.env`` sets; name each of its lines that sets nothing."""
    for line in load_dotenv(Path.cwd()):
        yield Found("warning", "environment", f"{line} sets nothing", UNREAD_CURE)


def variables(names: Collection[str], *, also: Collection[str] = ()) -> Iterator[Found]:
    """Name each variable that nobody reads; `also`: those that handlers of the registry need."""
    ours = {*VARIABLES, *quotas.VARIABLES.values()}
    known = {*ours, *also}
    unknown = sorted(name for name in names if name.upper().startswith(_PREFIXES) and name not in known)
    for name in unknown:
        near = difflib.get_close_matches(name.upper(), sorted(known), n=1)
        cure = f"did you mean {near[0]}?" if near else "unset it, or mend its name"
        yield Found("warning", "environment", f"nothing reads {name}", cure)
    if not unknown:
        used = sum(name in ours for name in names)
        yield Found("note", "environment", f"{counted(used, 'variable')} of ours set, none unknown")
