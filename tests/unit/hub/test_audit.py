"""The audit: what is written down, what is left out, and that nothing of a caller's can spoil a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support import FakeClock

from blocks_worker.hub.audit import ACTS, MOST_A_MINUTE, REFUSALS, Audit

if TYPE_CHECKING:
    from pathlib import Path


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_acts_and_refusals_stand_in_files_of_their_own(tmp_path: Path) -> None:
    """An act tells when it was and what is known of it; what is not known is left out."""
    audit = Audit(tmp_path, FakeClock())
    audit.acted([("key_created", {"by": "ann", "key": None}), ("key_revoked", {"by": "ann"})])
    audit.refused("TokenInvalid", status=401)

    assert [line["event"] for line in _lines(tmp_path / ACTS)] == ["key_created", "key_revoked"]
    assert _lines(tmp_path / ACTS)[0] == {"at": "2023-11-14T22:13:20.000+00:00", "event": "key_created", "by": "ann"}
    assert [(line["event"], line["code"]) for line in _lines(tmp_path / REFUSALS)] == [("refused", "TokenInvalid")]


def test_a_flood_of_refusals_is_counted_and_not_written(tmp_path: Path) -> None:
    """So many of a code are written in a minute; the first of the next minute tells how many were not."""
    clock = FakeClock()
    audit = Audit(tmp_path, clock)
    for _ in range(MOST_A_MINUTE + 7):
        audit.refused("TokenInvalid")
    audit.refused("NotFound")
    clock.advance(60)
    audit.refused("TokenInvalid")

    written = _lines(tmp_path / REFUSALS)
    assert len(written) == MOST_A_MINUTE + 2
    assert [line.get("leftOut") for line in written[-2:]] == [None, 7]


def test_a_line_stays_a_line_and_tells_no_secret(tmp_path: Path) -> None:
    """What a caller sends cannot begin a line of its own, paint a terminal, or be a secret that is kept. [K11]"""
    audit = Audit(tmp_path, FakeClock())
    audit.refused("NotFound", id='x\n{"event": "key_created"}\r\x1b[2J\u2028', note="bk_0123456789", token="abc")

    (line,) = _lines(tmp_path / REFUSALS)
    assert (line["event"], line["note"], line["token"]) == ("refused", "***", "***")
    assert not set("\n\r\x1b\u2028") & set(line["id"])
