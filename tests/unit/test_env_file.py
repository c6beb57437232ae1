"""What `.env` sets, and what of it sets nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from blocks_worker.config import environment
from blocks_worker.env_file import load_dotenv
from blocks_worker.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_of_dotenv_that_set_nothing_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others count, whatever stands between them."""
    for name in ("BLOCKS_TEST_ONE", "BLOCKS_TEST_TWO"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / ".env").write_text("BLOCKS_TEST_ONE=1\nno setting\nBLOCKS_TEST_TWO=2\n", encoding="utf-8")

    assert load_dotenv(tmp_path) == [".env:2"]
    assert (environment()["BLOCKS_TEST_ONE"], environment()["BLOCKS_TEST_TWO"]) == ("1", "2")


def test_a_line_that_no_environment_can_hold_sets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NUL in a value, and a name with a sign of equality, are told as lines, and the others count. [H1]"""
    monkeypatch.setenv("BLOCKS_TEST_TWO", "")
    monkeypatch.delenv("BLOCKS_TEST_TWO")
    (tmp_path / ".env").write_bytes(b"BLOCKS_TEST_ONE=a\0b\n'A=B'=1\nBLOCKS_TEST_TWO=2\n")

    assert load_dotenv(tmp_path) == [".env:1", ".env:2"]
    assert environment()["BLOCKS_TEST_TWO"] == "2"
    assert "BLOCKS_TEST_ONE" not in environment()


@pytest.mark.parametrize("content", [b"A=\xff", "A=1".encode("utf-16")])
def test_what_is_no_text_is_told_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    """Another encoding is named by its first byte, and nothing is set. [H1]"""
    (tmp_path / ".env").write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"byte \d+ is not UTF-8; save the file as UTF-8"):
        load_dotenv(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Editors put one before UTF-8. [H1]"""
    monkeypatch.setenv("BLOCKS_TEST_ONE", "")
    monkeypatch.delenv("BLOCKS_TEST_ONE")
    (tmp_path / ".env").write_text("BLOCKS_TEST_ONE=1\n", encoding="utf-8-sig")

    assert load_dotenv(tmp_path) == []
    assert environment()["BLOCKS_TEST_ONE"] == "1"
