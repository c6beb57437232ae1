"""What can go wrong, what happens then, and which test has made it happen.

The rows stand in reliability.toml. A test names those that it proves in its docstring, in brackets. A row that no
test proves has to say why.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from docs_proofs import proofs
from docs_source import ROOT, code, table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The groups of the page, by the letter of their ids.
GROUPS = {
    "A": "transport",
    "B": "tasks",
    "C": "handlers",
    "D": "process",
    "E": "ledger",
    "F": "files",
    "G": "identity",
    "H": "input",
    "J": "link-and-waiting",
}
_KIND = rf"\b[{''.join(GROUPS)}]\d+\b"
_FIELDS = {"failure", "behaviour"}


@cache
def rows() -> dict[str, dict[str, str]]:
    """Return the rows by their ids."""
    return tomllib.loads((ROOT / "scripts/reliability.toml").read_text(encoding="utf-8"))


def wrong_ids() -> list[str]:
    """Return a line for each row without a proof or a reason, and for each test of a row that is not there."""
    return [*_wrong_rows(), *_wrong_tests()]


def _wrong_rows() -> Iterator[str]:
    proven = {each for proof in proofs(_KIND) for each in proof.ids}
    for each, row in rows().items():
        if set(row) - {"unproven"} != _FIELDS or not all(row.values()):
            yield f"scripts/reliability.toml: {each} has failure, behaviour, and unproven where no test proves it"
        elif each not in proven and "unproven" not in row:
            yield f"scripts/reliability.toml: no test names [{each}]; write one, or say why not: unproven"
        elif each in proven and "unproven" in row:
            yield f"scripts/reliability.toml: {each} is said to be unproven, but a test names [{each}]; take one away"


def _wrong_tests() -> Iterator[str]:
    for proof in proofs(_KIND):
        yield from (f"{proof.node}: no row is called {each}" for each in proof.ids if each not in rows())


def shown(letter: str) -> str:
    """Return the rows of one group, each with the tests that prove it."""
    return table(
        ("id", "what goes wrong", "what happens then", "proven by"),
        (
            (each, row["failure"], row["behaviour"], _proven(each) or f"not proven: {row.get('unproven', '')}")
            for each, row in rows().items()
            if each.startswith(letter)
        ),
    )


def _proven(each: str) -> str:
    return "<br>".join(code(proof.node) for proof in proofs(_KIND) if each in proof.ids)


BLOCKS: dict[str, Callable[[str], str]] = {
    f"failures-{name}": (lambda _old, letter=letter: shown(letter))  # type: ignore[misc]  # the letter is bound now
    for letter, name in GROUPS.items()
}
