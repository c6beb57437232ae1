"""What `.env` sets, and what of it sets nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.config import environment
from blocks_worker.env_file import load_dotenv

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_lines_of_dotenv_that_set_nothing_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others count, whatever stands between them."""
    for name in ("BLOCKS_TEST_ONE", "BLOCKS_TEST_TWO"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / ".env").write_text("BLOCKS_TEST_ONE=1\nno setting\nBLOCKS_TEST_TWO=2\n", encoding="utf-8")

    assert load_dotenv(tmp_path) == [".env:2"]
    assert (environment()["BLOCKS_TEST_ONE"], environment()["BLOCKS_TEST_TWO"]) == ("1", "2")
