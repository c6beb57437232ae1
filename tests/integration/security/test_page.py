"""The page on security names tests, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
PAGE = TESTS.parent / "docs" / "security.md"


def test_each_test_that_the_page_names_is_there() -> None:
    """Every claim of the page that names its test names one that is run."""
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))

    missing = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (TESTS / path).read_text("utf-8")]
    assert (len(named) > 40, missing) == (True, [])
