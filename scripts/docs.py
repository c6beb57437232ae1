"""Write the parts of docs/*.md that repeat the code: what stands between two marks.

    <!-- generated: task-states -->
    ... written by ./scripts/docs, never by hand ...
    <!-- end -->

The name says which table it is; `BLOCKS` says who makes it. Everything outside the marks is prose and left alone.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import docs_api
import docs_commands
import docs_compatibility
import docs_reliability
import docs_tables
import docs_values
from docs_source import ROOT, SourceError

from blocks_worker.cli.units import shipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: What makes the text of a block from the text that stands there now.
BLOCKS: dict[str, Callable[[str], str]] = {
    **docs_tables.BLOCKS,
    **docs_values.BLOCKS,
    **docs_compatibility.BLOCKS,
    **docs_reliability.BLOCKS,
    **docs_api.BLOCKS,
    **docs_commands.BLOCKS,
}

_MARK = re.compile(r"^<!-- (?:generated: (?P<name>\S+)|(?P<end>end)) -->$", re.MULTILINE)


def blocks(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the name of each block of a page, and where its text begins and ends.

    Raises:
        SourceError: a block has no end, an end no block, or nobody makes a block of that name.
    """
    name, start = "", 0
    for mark in _MARK.finditer(text):
        if bool(name) != bool(mark["end"]):
            raise SourceError(f"{mark[0]} stands where {'an end' if name else 'a beginning'} has to be")
        if mark["end"]:
            yield name, start, mark.start()
            name = ""
            continue
        name, start = mark["name"], mark.end() + 1
        if name not in BLOCKS:
            raise SourceError(f"no block is called {name!r}; there are: {', '.join(sorted(BLOCKS))}")
    if name:
        raise SourceError(f"the block {name!r} has no end")


def rewritten(page: Path, text: str) -> tuple[str, list[str], list[str]]:
    """Return the text of a page as it should be, the blocks that are not so now, and why others cannot be written."""
    new, done, stale, faults = "", 0, [], []
    try:
        for name, start, end in blocks(text):
            try:
                made = f"\n{BLOCKS[name](text[start:end]).strip()}\n\n"
            except SourceError as error:
                faults.append(f"docs/{page.name}: {name} cannot be written: {error}")
                continue
            if made != text[start:end]:
                stale.append(f"docs/{page.name}: {name}")
            new, done = new + text[done:start] + made, end
    except SourceError as error:
        faults.append(f"docs/{page.name}: {error}")
    return new + text[done:], stale, faults


def units() -> dict[Path, str]:
    """Return the units that are shipped: the package makes them, as it does those of `blocks deploy`."""
    folder = ROOT / "deploy" / "systemd"
    return {folder / name: text for name, text in shipped().items()} if folder.is_dir() else {}


def main(arguments: list[str]) -> int:
    """Write every page anew; with --check say what is stale and write nothing."""
    if arguments not in ([], ["--check"]):
        print("usage: ./scripts/docs [--check]", file=sys.stderr)
        return 2
    faults, said = [*docs_compatibility.wrong_ids(), *docs_reliability.wrong_ids()], []
    for page in sorted((ROOT / "docs").glob("*.md")):
        text, stale, wrong = rewritten(page, page.read_text(encoding="utf-8"))
        faults += wrong
        said += [f"{block} {'is stale: run ./scripts/docs' if arguments else 'written anew'}" for block in stale]
        if stale and not arguments:
            page.write_text(text, encoding="utf-8")
    for path, text in units().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            named = path.relative_to(ROOT)
            said.append(f"{named} {'is stale: run ./scripts/docs' if arguments else 'written anew'}")
            if not arguments:
                path.write_text(text, encoding="utf-8")
    print("\n".join(faults + said) or "docs say what the code says")
    return 1 if faults or (said and arguments) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
