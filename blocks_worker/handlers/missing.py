"""What to say when a handler's code was not found or fails while it is loaded: a near name, a file and a line."""

from __future__ import annotations

import importlib
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blocks_worker.handlers.registry import HandlerEntry

_FUNCTION = re.compile(r"^(?:async )?def ([A-Za-z]\w*)\(", re.MULTILINE)
#: Files whose frames are the loading itself.
_OWN = frozenset({importlib.__file__, str(Path(__file__).with_name("loader.py"))})
#: Characters of a user's file that are searched for a function.
_MOST_READ = 1024 * 1024


def entry_point_near(name: str, folder: Path) -> str | None:
    """Return ``module:function`` when a file of the folder has the name that was taken for a handler's."""
    stem = name.removesuffix(".py")
    path = folder / f"{stem}.py"
    if not stem.isidentifier() or not path.is_file():
        return None
    functions = _FUNCTION.findall(_beginning(path))
    symbol = "handler" if "handler" in functions or not functions else functions[0]
    return f"{stem}:{symbol}"


def where_import_failed(error: BaseException, entry: HandlerEntry) -> str:
    """Return file and line of the user's code that failed; where nothing was found, the folders that were searched."""
    line = _failing_line(error)
    if line is not None:
        return line
    folders = dict.fromkeys(str(folder) for folder in (entry.folder, Path.cwd()))
    return f"looked in {' and '.join(folders)}"


def _failing_line(error: BaseException) -> str | None:
    """Return where the error came from when it came out of code that was loaded, and not out of the search for it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename} line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename not in _OWN
    ]
    return f"{frames[-1].filename} line {frames[-1].lineno}" if frames else None


def _beginning(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MOST_READ)
    except OSError:
        return ""
