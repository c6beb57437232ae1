"""registry.json: which handlers a worker can serve, read, checked and searched for."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks_worker.config import environment
from blocks_worker.errors import ConfigurationError, UnknownHandlerError
from blocks_worker.protocol.channels import AGENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PYTHON = "python"
FILE_NAME = "registry.json"

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_TOP_KEYS = ("$schema", "schemaVersion", "handlers")
_ENTRY_KEYS = (
    "name",
    "agentName",
    "runtime",
    "description",
    "tags",
    "skills",
    "entrypoint",
    "requiresEnv",
    "card",
    "defaults",
)
_DEFAULTS = {
    "concurrency": "concurrency",
    "maxThreads": "concurrency",
    "expectedInstances": "expected_instances",
    "maxRunningTimeSec": "max_running_time_sec",
    "progressTimeoutSec": "progress_timeout_sec",
}


@dataclass(frozen=True)
class HandlerEntry:
    """One handler as the registry describes it.

    Attributes:
        module: a dotted module, or a ``.py`` file relative to `folder`.
        agent_name: None: made from the name, or taken from the card.
        folder: the folder of the registry file; what it names is relative to it.
        card: a card file, relative to `folder`.
        defaults: options of the instance by their names, such as ``concurrency``.
    """

    name: str
    module: str
    symbol: str
    agent_name: str | None = None
    runtime: str = PYTHON
    description: str | None = None
    tags: tuple[str, ...] = ()
    requires_env: tuple[str, ...] = ()
    card: str | None = None
    defaults: Mapping[str, int] = field(default_factory=dict)
    folder: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True)
class Registry:
    """The handlers of one file and the built-ins; `path` is None for the built-ins alone."""

    entries: tuple[HandlerEntry, ...]
    schema_version: str = "1.0"
    path: Path | None = None


def load_registry(path: str | Path | None = None) -> Registry:
    """Return the registry of a file, with the built-in handlers that it does not define itself.

    Args:
        path: the file; None: the first found of BLOCKS_REGISTRY, ``./registry.json``,
            ``./blocks_worker/registry.json`` and the one of the package.

    Raises:
        FileNotFoundError: a file that was named is not there.
        ValueError: not JSON (with the line), a wrong or unknown key (with its place), no handlers.
    """
    if path is None:
        path = environment().get("BLOCKS_REGISTRY", "").strip() or find_registry(search_places(Path.cwd()))
    return built_in_registry() if path is None else _with_built_ins(_read(Path(path).absolute()))


def built_in_registry() -> Registry:
    """Return the handlers that are always there."""
    raw = json.loads(resources.files("blocks_worker").joinpath(FILE_NAME).read_text(encoding="utf-8"))
    return _parse(raw, "the built-in registry", Path.cwd(), None)


def search_places(folder: Path) -> list[Path]:
    """Return where a registry file is looked for below a folder."""
    return [folder / FILE_NAME, folder / "blocks_worker" / FILE_NAME]


def find_registry(places: Iterable[Path]) -> Path | None:
    """Return the first of the files that is there."""
    return next((place for place in places if place.is_file()), None)


def get_available_handlers(registry: Registry | Mapping[str, Any], runtime: str = PYTHON) -> list[str]:
    """Return the names of the handlers of one runtime, in the order of the file."""
    return [entry.name for entry in _registry(registry).entries if entry.runtime == runtime]


def find_handler_entry(registry: Registry | Mapping[str, Any], name: str, runtime: str = PYTHON) -> HandlerEntry:
    """Return the entry of a handler.

    Raises:
        UnknownHandlerError: there is none; it names the available ones.
    """
    named = [entry for entry in _registry(registry).entries if entry.name == name]
    for entry in named:
        if entry.runtime == runtime:
            return entry
    available = get_available_handlers(registry, runtime)
    raise UnknownHandlerError(name, available, _hint(name, available, named, runtime))


def entry_of(raw: Mapping[str, Any], *, folder: Path | None = None) -> HandlerEntry:
    """Return the entry that a dict in the form of the file describes."""
    return _entry(dict(raw), "entry", folder or Path.cwd())


def check_agent_name(name: str, where: str) -> str:
    """Return an agent's name that may be one.

    Raises:
        ConfigurationError: it may not; a hyphen gets the name with underscores offered.
    """
    if AGENT.match(name):
        return name
    better = name.replace("-", "_")
    hint = f"; write {better!r}" if AGENT.match(better) else ""
    raise ConfigurationError(f"{where}: {name!r} may hold 1 to 64 letters, digits and underscores only{hint}")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        FileNotFoundError: it is not there.
        ConfigurationError: it cannot be read or is not JSON; the text names the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there; name another file or make it") from None
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path} line {error.lineno} column {error.colno}: {error.msg}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def _hint(name: str, available: list[str], named: list[HandlerEntry], runtime: str) -> str:
    if named:
        return f"the registry has it for runtime {named[0].runtime!r}, and this worker serves {runtime!r}"
    near = difflib.get_close_matches(name, available, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _registry(given: Registry | Mapping[str, Any]) -> Registry:
    return given if isinstance(given, Registry) else _parse(given, "registry", Path.cwd(), None)


def _read(path: Path) -> Registry:
    return _parse(read_json(path), str(path), path.parent, path)


def _with_built_ins(registry: Registry) -> Registry:
    own = {entry.name for entry in registry.entries if entry.runtime == PYTHON}
    added = tuple(entry for entry in built_in_registry().entries if entry.name not in own)
    return Registry((*registry.entries, *added), registry.schema_version, registry.path)


def _parse(raw: Any, where: str, folder: Path, path: Path | None) -> Registry:
    raw = _typed(raw, dict, where)
    _known(raw, _TOP_KEYS, where)
    version = _typed(raw.get("schemaVersion", "1.0"), str, f"{where}: schemaVersion")
    handlers = _typed(raw.get("handlers"), list, f"{where}: handlers")
    if not version or not handlers:
        empty = "handlers" if version else "schemaVersion"
        raise ConfigurationError(f"{where}: {empty} is empty; a registry lists at least one handler")
    entries = tuple(_entry(entry, f"{where}: handlers[{index}]", folder) for index, entry in enumerate(handlers))
    names = [(entry.name, entry.runtime) for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError(f"{where}: the handler {twice[0]!r} is there twice; rename one")
    return Registry(entries, version, path)


def _entry(raw: Any, where: str, folder: Path) -> HandlerEntry:
    raw = _typed(raw, dict, where)
    name = _typed(raw.get("name"), str, f"{where}.name")
    if not _NAME.match(name):
        raise ConfigurationError(f"{where}.name: {name!r} may hold 1 to 64 letters, digits, '-' and '_' only")
    runtime = _typed(raw.get("runtime", PYTHON), str, f"{where}.runtime")
    if runtime != PYTHON:  # somebody else reads those: nothing of them is checked here
        return HandlerEntry(name, "", "", runtime=runtime, folder=folder)
    _known(raw, _ENTRY_KEYS, where)
    module, symbol = _entrypoint(raw.get("entrypoint"), f"{where}.entrypoint")
    agent_name = _optional(raw, "agentName", where)
    return HandlerEntry(
        name,
        module,
        symbol,
        agent_name=check_agent_name(agent_name, f"{where}.agentName") if agent_name is not None else None,
        description=_optional(raw, "description", where),
        tags=(*_texts(raw, "tags", where), *_texts(raw, "skills", where)),
        requires_env=_texts(raw, "requiresEnv", where),
        card=_optional(raw, "card", where),
        defaults=_defaults(raw.get("defaults", {}), f"{where}.defaults"),
        folder=folder,
    )


def _entrypoint(raw: Any, where: str) -> tuple[str, str]:
    if isinstance(raw, dict):
        _known(raw, ("path", "symbol"), where)
        module, symbol = raw.get("path"), raw.get("symbol", "handler")
    else:
        module, _, symbol = _typed(raw, str, where).rpartition(":")
    if not (isinstance(module, str) and module and isinstance(symbol, str) and symbol):
        raise ConfigurationError(
            f'{where}: write "package.module:function", or {{"path": "file.py", "symbol": "function"}}'
        )
    return module, symbol


def _defaults(raw: Any, where: str) -> dict[str, int]:
    raw = _typed(raw, dict, where)
    _known(raw, tuple(_DEFAULTS), where)
    for key, value in raw.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ConfigurationError(f"{where}.{key}: {value!r} must be a whole number of zero or more")
    return {_DEFAULTS[key]: value for key, value in raw.items()}


def _texts(raw: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = _typed(raw.get(key, []), list, f"{where}.{key}")
    return tuple(_typed(value, str, f"{where}.{key}[{index}]") for index, value in enumerate(values))


def _optional(raw: dict[str, Any], key: str, where: str) -> str | None:
    return None if raw.get(key) is None else str(_typed(raw[key], str, f"{where}.{key}"))


def _typed(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, kind):
        return value
    what = "is missing" if value is None else f"is {type(value).__name__}"
    raise ConfigurationError(f"{where} {what}; it must be {kind.__name__}")


def _known(raw: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ConfigurationError(f"{where}: unknown key {key!r}; {hint}")
