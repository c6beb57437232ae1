"""The file `.env` of a folder: taken into the environment, and out of it again."""

from __future__ import annotations

import os
from io import StringIO
from typing import TYPE_CHECKING

from blocks_worker.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dotenv.parser import Binding


def load_dotenv(folder: Path) -> list[str]:
    """Take what ``.env`` in the folder sets and the environment does not; return its lines that set nothing.

    Raises:
        ConfigurationError: it cannot be read, or is no text.
    """
    path = folder / ".env"
    if not path.is_file():
        return []
    import dotenv
    from dotenv.parser import parse_stream

    lines = list(parse_stream(StringIO(_text_of(path))))
    sound = "".join(line.original.string for line in lines if _sets(line))
    dotenv.load_dotenv(stream=StringIO(sound), override=False)
    return [f".env:{line.original.line}" for line in lines if not _sets(line)]


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{path}: byte {error.start} is not UTF-8"
        raise ConfigurationError(f"{where}; save the file as UTF-8, or take it away") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); let this user read it") from error


def _sets(line: Binding) -> bool:
    """Tell whether a line says something that an environment can hold."""
    return not line.error and not {"\0", "="} & set(line.key or "") and "\0" not in (line.value or "")


def forget_dotenv(before: Mapping[str, str]) -> None:
    """Take back what ``.env`` set beyond the environment of before, so that the file can be read anew."""
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
