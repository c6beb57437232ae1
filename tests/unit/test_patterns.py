"""[H10] Every pattern of ours against texts that are made to please it: none takes long."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import time
from typing import Any

import pytest

import blocks_worker
from blocks_worker.observability.redact import MAX_FIELD, redact, without_password

#: Characters of a text, and bytes of a body: what is longer is cut, or refused, before any pattern sees it.
TEXT, BODY = MAX_FIELD, 256 * 1024
#: Seconds of work: what others did meanwhile does not count.
MOST = 0.05


def _patterns() -> dict[str, re.Pattern[Any]]:
    """Return every compiled pattern that stands in a module, by module and name."""
    found: dict[str, re.Pattern[Any]] = {}
    for module in pkgutil.walk_packages(blocks_worker.__path__, "blocks_worker."):
        if module.name.endswith("__main__") or ".templates." in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern) and value not in found.values():
                found[f"{module.name.removeprefix('blocks_worker.')}:{name}"] = value
    return found


def _is_sought(name: str) -> bool:
    """Tell whether its module seeks it anywhere in a text; all others are asked for what a text begins with."""
    module, _, pattern = name.partition(":")
    source = inspect.getsource(importlib.import_module(f"blocks_worker.{module}"))
    return bool(re.search(rf"\b{pattern}\.(?:search|sub|findall|finditer|split)\b", source))


PATTERNS = _patterns()
#: What patterns are made to run over: long runs of one thing, and pairs that nearly match, with an end that does not.
PIECES = [
    *("a", "0", "_", "-", ".", " ", "\\", '"', "/", ":", "=", "[", "{", "@", "é", "\n", "a.", "a=", "0.", '\\"'),
    *("a/a; ", "key=", "token: ", "bearer ", "http://a:", "//u:p", "def a(", "bk_", "eyJ", "1e", "token", "auth"),
]
ENDS = ["", "!", "@"]


def _seconds(pattern: re.Pattern[Any], text: Any, *, sought: bool = True) -> float:
    begun = time.thread_time()
    pattern.search(text) if sought else pattern.match(text)
    return time.thread_time() - begun


def test_the_patterns_are_found() -> None:
    """What is tried below are the patterns of the package."""
    assert len(PATTERNS) > 25


@pytest.mark.parametrize("name", PATTERNS)
def test_no_text_keeps_a_pattern_busy(name: str) -> None:
    """[H10] However a text is made, it is read in a moment; who was held up by others is asked again."""
    pattern, sought = PATTERNS[name], _is_sought(name)
    for text in (piece * (TEXT // len(piece)) + end for piece in PIECES for end in ENDS):
        sent = text.encode() if isinstance(pattern.pattern, bytes) else text
        took = _seconds(pattern, sent, sought=sought)
        assert took < MOST or min(_seconds(pattern, sent, sought=sought) for _ in range(3)) < MOST, (
            text[:20],
            text[-1],
        )


@pytest.mark.parametrize("name", [name for name in PATTERNS if name.startswith("protocol.codec:")])
def test_no_body_keeps_a_pattern_of_bodies_busy(name: str) -> None:
    """[H10] Those see a whole body: time grows with its length and no faster."""
    for piece in (b'"', b"\\", b'\\"', b"[", b"9", b"1e"):
        short, long = (piece * (size // len(piece)) for size in (BODY // 8, BODY))
        before = min(_seconds(PATTERNS[name], short) for _ in range(3))
        assert min(_seconds(PATTERNS[name], long) for _ in range(3)) < max(MOST, 24 * before), piece


@pytest.mark.parametrize("piece", ["_", "0", "a0", "_a", "token", "token=", "auth", " ", '"', "//u:", "é"])
def test_what_is_blanked_in_a_log_is_found_in_a_moment(piece: str) -> None:
    """[H10] [H9] As much as a field may hold, of one thing: underlines once took minutes."""
    text = piece * (8 * MAX_FIELD // len(piece))

    begun = time.thread_time()
    redact(text)
    without_password(text)

    assert time.thread_time() - begun < 0.5
