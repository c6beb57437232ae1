"""Tasks by a part of their ids."""

from __future__ import annotations

import pytest

from blocks_worker.cli.task_ids import matching

IDS = ["0199a2b3-1111-7000-8000-00000000abcd", "0199a2b3-2222-7000-8000-00000000ffff"]


@pytest.mark.parametrize(
    ("text", "found"),
    [("0199a2b3-1", IDS[:1]), ("ffff", IDS[1:]), ("0199a2b3", IDS), (IDS[0], IDS[:1]), ("a2b3", []), ("zzzz", [])],
)
def test_a_task_is_found_by_beginning_or_end(text: str, found: list[str]) -> None:
    """Ids that were made one after another begin alike, so the end will do as well; the middle will not."""
    assert matching(text, IDS) == found
