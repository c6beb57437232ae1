"""From a name, an entry point or a card to a handler that can be called."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks_worker.config import environment
from blocks_worker.errors import ConfigurationError, UnknownHandlerError
from blocks_worker.handlers.base import Handler
from blocks_worker.handlers.missing import entry_point_near, where_import_failed
from blocks_worker.handlers.registry import (
    HandlerEntry,
    built_in_registry,
    check_agent_name,
    entry_of,
    find_handler_entry,
    find_registry,
    load_registry,
)
from blocks_worker.protocol.cards import load_card

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

#: The symbol that a card or a bare module stands for.
DEFAULT_SYMBOL = "handler"


@dataclass(frozen=True)
class LoadedHandler:
    """A handler and what its registry entry or card says of it.

    Attributes:
        defaults: options of the instance by their names, such as ``concurrency``.
        folders: where its modules came from: what it imports later is found there too.
    """

    handler: Handler
    agent_name: str
    description: str | None = None
    tags: tuple[str, ...] = ()
    card: dict[str, Any] | None = None
    defaults: Mapping[str, int] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()


def resolve_handler(
    name: str, *, registry_path: Path | None = None, search: list[Path], env: Mapping[str, str] | None = None
) -> LoadedHandler:
    """Return the handler of that name in the registry, or the one that ``module:function`` names.

    Args:
        name: of a handler, or ``module:function``.
        registry_path: the registry file; None: the first found of `search`.
        search: files that may be the registry.
        env: where an entry's ``requiresEnv`` is looked up; None: the process environment.

    Raises:
        UnknownHandlerError: no such name.
        ConfigurationError, FileNotFoundError: the registry or a card is wrong, or a variable is not set.
        ImportError, AttributeError, TypeError: as `load_handler_function`.
    """
    if ":" in name:
        return _direct(name)
    path = registry_path or find_registry(search)
    try:
        entry = find_handler_entry(built_in_registry() if path is None else load_registry(path), name)
    except UnknownHandlerError as unknown:
        spoken = entry_point_near(name, Path.cwd())
        if spoken is None:
            raise
        raise UnknownHandlerError(name, unknown.available, f"did you mean {spoken}?") from None
    _check_env(entry, environment() if env is None else env)
    handler = Handler.of(load_handler_function(entry), entry.name)
    card = load_card(entry.folder / entry.card) if entry.card else None
    return LoadedHandler(
        handler,
        _agent_name(entry, card),
        description=entry.description or _first_line(handler),
        tags=entry.tags,
        card=card,
        defaults=entry.defaults,
        folders=(import_root(entry.folder),),
    )


def resolve_card(path: Path) -> LoadedHandler:
    """Return the handler that a card names in ``runtime.handler``.

    Raises:
        ConfigurationError: the card is wrong, or names no agent or handler.
        ImportError, AttributeError, TypeError: as `load_handler_function`.
    """
    card = load_card(path)
    name = card_agent_name(card)
    runtime = card.get("runtime") if isinstance(card.get("runtime"), dict) else {}
    spoken = runtime.get("handler")  # type: ignore[union-attr]  # a dict by the line above
    if name is None:
        raise ConfigurationError(f"{path}: identity.agentName is missing; name the agent there")
    if not isinstance(spoken, str) or not spoken:
        raise ConfigurationError(
            f'{path}: runtime.handler is missing; name a file ("handler.py") or "package.module:function"'
        )
    module, _, symbol = spoken.rpartition(":") if ":" in spoken else (spoken, "", "")
    entry = HandlerEntry(
        check_agent_name(name, f"{path}: identity.agentName"),
        module,
        symbol or str(runtime.get("handlerExport") or DEFAULT_SYMBOL),  # type: ignore[union-attr]  # as above
        folder=path.absolute().parent,
    )
    handler = Handler.of(load_handler_function(entry), name)
    return LoadedHandler(
        handler, name, description=_first_line(handler), card=card, folders=(import_root(entry.folder),)
    )


def card_agent_name(card: Mapping[str, Any]) -> str | None:
    """Return the agent that a card is for, or None."""
    identity = card.get("identity")
    name = identity.get("agentName") if isinstance(identity, dict) else None
    return name if isinstance(name, str) and name else None


def load_handler_function(entry: HandlerEntry | Mapping[str, Any]) -> Callable[..., object]:
    """Return the function of an entry; the registry's folder and the working folder are importable meanwhile.

    Raises:
        ImportError: the module is not there or fails while it is loaded; the text names it.
        AttributeError: the module has no such symbol; near matches are named.
        TypeError: the symbol is not callable.
    """
    if not isinstance(entry, HandlerEntry):
        entry = entry_of(entry)
    with _importable((import_root(entry.folder), Path.cwd())):
        module = _load(entry)
    function = _symbol(module, entry)
    if not callable(function):
        raise TypeError(
            f"handler {entry.name!r}: {entry.symbol!r} in {entry.module!r} is {type(function).__name__}, "
            "which is not callable; name a function"
        )
    return function  # type: ignore[no-any-return]  # callable by the check above


def import_root(folder: Path) -> Path:
    """Return the folder from which modules beside a file are imported.

    Inside a package that is the folder which holds the package: its modules would otherwise stand in the
    way of the standard library's.
    """
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _direct(spoken: str) -> LoadedHandler:
    module, _, symbol = spoken.rpartition(":")
    if not module or not symbol:
        raise ConfigurationError(f"{spoken!r} is no entry point; write 'package.module:function' or a handler's name")
    entry = HandlerEntry(symbol, module, symbol)
    handler = Handler.of(load_handler_function(entry))
    # A function called "handler" says nothing: then the module does.
    name = Path(module).stem if module.endswith(".py") else module.rpartition(".")[2]
    agent_name = check_agent_name(name if symbol == DEFAULT_SYMBOL else symbol.rpartition(".")[2], f"{spoken}: agent")
    return LoadedHandler(handler, agent_name, description=_first_line(handler), folders=(import_root(entry.folder),))


def _check_env(entry: HandlerEntry, env: Mapping[str, str]) -> None:
    missing = [name for name in entry.requires_env if not env.get(name)]
    if missing:
        raise ConfigurationError(
            f"handler {entry.name!r} needs {', '.join(missing)} in the environment; set it, or put it into .env"
        )


def _agent_name(entry: HandlerEntry, card: dict[str, Any] | None) -> str:
    carded = None if card is None else card_agent_name(card)
    if entry.agent_name is not None and carded is not None and carded != entry.agent_name:
        raise ConfigurationError(
            f"handler {entry.name!r}: agentName is {entry.agent_name!r}, its card says {carded!r}; make them equal"
        )
    return check_agent_name(
        entry.agent_name or carded or entry.name.replace("-", "_"), f"handler {entry.name!r}: agentName"
    )


def _load(entry: HandlerEntry) -> ModuleType:
    try:
        return _load_file(entry) if entry.module.endswith(".py") else importlib.import_module(entry.module)
    except (Exception, SystemExit) as error:
        # The module is the user's: whatever stops it, the answer is the same one line.
        raise ImportError(
            f"handler {entry.name!r}: cannot load {entry.module!r} ({where_import_failed(error, entry)}): "
            f"{type(error).__name__}: {error}",
            name=entry.module,
        ) from error


def _load_file(entry: HandlerEntry) -> ModuleType:
    path = (entry.folder / entry.module).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    # Two files may share a name: the path makes the module's name its own.
    name = f"blocks_handler_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importable((import_root(path.parent),)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _symbol(module: ModuleType, entry: HandlerEntry) -> Any:
    found: Any = module
    for step in entry.symbol.split("."):
        if not hasattr(found, step):
            near = difflib.get_close_matches(step, [name for name in dir(found) if not name.startswith("_")])
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise AttributeError(f"handler {entry.name!r}: {entry.module!r} has no {entry.symbol!r}{hint}")
        found = getattr(found, step)
    return found


@contextlib.contextmanager
def _importable(folders: tuple[Path, ...]) -> Iterator[None]:
    """Put folders before all others on the module path for a while, as Python does for a script's own."""
    added = [str(folder) for folder in folders if str(folder) not in sys.path]
    sys.path[:0] = added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)


def _first_line(handler: Handler) -> str | None:
    doc = getattr(handler.function, "__doc__", None)
    return doc.strip().splitlines()[0] if isinstance(doc, str) and doc.strip() else None
