"""The files of which a worker is made, and whether one of them has changed: looked at now and then, no more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from blocks_worker.cli.choosing import CARD_FILE
from blocks_worker.errors import BlocksError
from blocks_worker.handlers.registry import FILE_NAME, find_registry, load_registry, search_places
from blocks_worker.protocol.cards import load_card

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    #: Time of the last change, size and number of a file.
    Seen = dict[Path, tuple[int, int, int]]

#: Folders in which nobody writes a handler, besides hidden ones and environments.
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "site-packages"})
#: Files that are looked at; a look at more would cost more than a worker.
MOST_FILES = 5000


class Sources:
    """Know the Python files below some folders, and some files besides, as they were at the last look."""

    def __init__(self, folders: Iterable[Path], files: Iterable[Path], most: int = MOST_FILES) -> None:
        self._most = most
        self._folders = list(dict.fromkeys(folder.absolute() for folder in folders))
        self._files = list(dict.fromkeys(file.absolute() for file in files))
        self._seen = self._look()

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def is_cut(self) -> bool:
        """Tell whether there may be more files than are looked at."""
        return len(self._seen) >= self._most

    def changed(self) -> list[Path]:
        """Return what was made, written or taken away since the last look."""
        before, self._seen = self._seen, self._look()
        return sorted(path for path in before.keys() | self._seen.keys() if before.get(path) != self._seen.get(path))

    def _look(self) -> Seen:
        seen: Seen = {}
        for path in self._paths():
            try:
                about = path.stat()
            except OSError:
                continue
            seen[path] = (about.st_mtime_ns, about.st_size, about.st_ino)
            if len(seen) >= self._most:
                break
        return seen

    def _paths(self) -> Iterator[Path]:
        yield from self._files
        for folder in self._folders:
            for place, folders, files in os.walk(folder):
                folders[:] = sorted(name for name in folders if _may_hold(Path(place, name)))
                yield from (Path(place, name) for name in files if name.endswith(".py"))


def _may_hold(folder: Path) -> bool:
    name = folder.name
    return not name.startswith(".") and name not in _LEFT_OUT and not (folder / "pyvenv.cfg").exists()


def sources_of(
    here: Path, registry: Path | None, card: Path | None, handlers: Sequence[str] = (), *, most: int = MOST_FILES
) -> Sources:
    """Return what a worker that is started in this folder is made of; a file that is wrong is one of them too.

    What is known by name comes first: a look may not come to the end of a large folder.
    """
    found = registry or find_registry(search_places(here))
    files = [here / FILE_NAME, here / CARD_FILE, here / ".env", *([] if card is None else [card])]
    files += [file for handler in handlers for file in _files_of(handler.rpartition(":")[0], here)]
    files += [file for place in [here / CARD_FILE, *([] if card is None else [card])] for file in _named_in(place)]
    folders = [here, *([] if card is None else [card.absolute().parent])]
    if found is not None:
        files.append(found)
        folders.append(found.absolute().parent)
        files += _listed(found)
    return Sources(folders, files, most)


def _listed(registry: Path) -> list[Path]:
    """Return cards and code of the handlers of a registry."""
    try:
        entries = load_registry(registry).entries
    except (BlocksError, OSError):
        return []
    cards = [entry.folder / entry.card for entry in entries if entry.card]
    return [*cards, *(file for entry in entries for file in _files_of(entry.module, entry.folder))]


def _named_in(card: Path) -> list[Path]:
    """Return the code that a card names."""
    try:
        runtime = load_card(card).get("runtime")
    except (BlocksError, OSError):
        return []
    spoken = runtime.get("handler") if isinstance(runtime, dict) else None
    if not isinstance(spoken, str):
        return []
    return _files_of(spoken.rpartition(":")[0] or spoken, card.absolute().parent)


def _files_of(module: str, folder: Path) -> list[Path]:
    """Return the files that a module may be in; it need not be there yet, nor be one of the user's."""
    if not module or module.endswith(".py"):
        return [folder / module] if module else []
    place = folder.joinpath(*module.split("."))
    return [place.with_name(f"{place.name}.py"), place / "__init__.py"]
