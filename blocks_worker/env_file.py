"""The file `.env` of a folder: taken into the environment, and out of it again."""

from __future__ import annotations

import os
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def load_dotenv(folder: Path) -> list[str]:
    """Take what ``.env`` in the folder sets and the environment does not; return its lines that set nothing."""
    path = folder / ".env"
    if not path.is_file():
        return []
    import dotenv
    from dotenv.parser import parse_stream

    lines = list(parse_stream(StringIO(path.read_text(encoding="utf-8"))))
    sound = "".join(line.original.string for line in lines if not line.error)
    dotenv.load_dotenv(stream=StringIO(sound), override=False)
    return [f".env:{line.original.line}" for line in lines if line.error]


def forget_dotenv(before: Mapping[str, str]) -> None:
    """Take back what ``.env`` set beyond the environment of before, so that the file can be read anew."""
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
