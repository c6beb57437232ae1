"""What a refusal asks for."""

from __future__ import annotations

import pytest

from blocks_worker.controlplane.refusals import pause_of


@pytest.mark.parametrize(
    ("said", "meant"),
    [("3", 3.0), ("0", 0.0), ("86400", 60.0), ("-1", None), ("1.5", None), ("\u0663", None), ("soon", None)],
)
def test_a_pause_is_whole_seconds_and_bounded(said: str, meant: float | None) -> None:
    """A server says when to ask again, but silences nobody for good; a date and nonsense say nothing. [A14]"""
    assert pause_of({"retry-after": said}) == meant
    assert pause_of({}) is None
