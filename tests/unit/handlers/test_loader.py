import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks_worker.errors import ConfigurationError, UnknownHandlerError
from blocks_worker.handler_loader import load_handler_function
from blocks_worker.handlers.loader import LoadedHandler, resolve_card, resolve_handler


@pytest.fixture(autouse=True)
def forgotten_modules() -> Iterator[None]:
    """Let each test load its own modules under the same names."""
    before = set(sys.modules)
    path = list(sys.path)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]
    assert sys.path == path


def project(folder: Path, source: str = "def handler(task):\n    return 'hi'\n", **entry: object) -> Path:
    """Write a module and a registry with one entry; return the registry's path."""
    (folder / "greetings.py").write_text(source, encoding="utf-8")
    full = {"name": "greet", "entrypoint": "greetings:handler", **entry}
    path = folder / "registry.json"
    path.write_text(json.dumps({"schemaVersion": "1.0", "handlers": [full]}), encoding="utf-8")
    return path


def load(path: Path, name: str = "greet", **options: object) -> LoadedHandler:
    """Return the handler of that name."""
    return resolve_handler(name, registry_path=path, search=[], **options)  # type: ignore[arg-type]  # env only


def test_a_users_module_is_found_beside_the_registry(tmp_path: Path) -> None:
    """[R-4] A module beside the registry file loads, and so does what it imports there."""
    (tmp_path / "helper_of_greetings.py").write_text("WORD = 'hello'\n", encoding="utf-8")
    source = (
        "from helper_of_greetings import WORD\ndef handler(task):\n    '''Greet.\n\n    More.'''\n    return WORD\n"
    )
    loaded = load(project(tmp_path, source, tags=["a"], defaults={"maxThreads": 3}))

    assert loaded.handler(None, None) == "hello"
    assert (loaded.agent_name, loaded.description, loaded.tags) == ("greet", "Greet.", ("a",))
    assert loaded.defaults == {"concurrency": 3}


def test_a_file_is_found_relative_to_the_registry(tmp_path: Path) -> None:
    """[2.12] An entry point may be a file; two files of one name do not get in each other's way."""
    for word in ("one", "two"):
        (tmp_path / word).mkdir()
        (tmp_path / word / "same.py").write_text(f"def f(task):\n    return '{word}'\n", encoding="utf-8")
    said = [
        load(project(tmp_path, entrypoint={"path": f"{word}/same.py", "symbol": "f"})).handler(None, None)
        for word in ("one", "two")
    ]

    assert said == ["one", "two"]


def test_hyphens_become_underscores_in_the_agents_name(tmp_path: Path) -> None:
    """[2.12, A-3] A hyphenated handler serves an agent with underscores."""
    assert load(project(tmp_path, name="say-hello"), "say-hello").agent_name == "say_hello"


@pytest.mark.parametrize(
    ("entry", "source", "kind", "told"),
    [
        ({"entrypoint": "no_such_module_here:f"}, "", ImportError, "no_such_module_here"),
        ({"entrypoint": {"path": "none.py", "symbol": "f"}}, "", ImportError, "none.py"),
        ({}, "def handler(task:\n", ImportError, "SyntaxError"),
        ({}, "raise RuntimeError('not today')\n", ImportError, "not today"),
        ({}, "raise SystemExit(3)\n", ImportError, "SystemExit"),
        ({}, "def handle(task): ...\n", AttributeError, "did you mean 'handle'"),
        ({}, "handler = 3\n", TypeError, "not callable"),
        ({}, "def handler(): ...\n", TypeError, "'greet' takes no argument"),
    ],
)
def test_what_cannot_be_loaded_is_told(
    tmp_path: Path, entry: Any, source: str, kind: type[Exception], told: str
) -> None:
    """[2.12] Each kind of trouble has its own exception, which names handler and cause."""
    with pytest.raises(kind, match=told):
        load(project(tmp_path, source, **entry))


def test_missing_variables_are_named(tmp_path: Path) -> None:
    """[2.12] A handler whose variable is not set is refused, with the name of the variable."""
    path = project(tmp_path, requiresEnv=["MODEL_KEY", "OTHER"])
    with pytest.raises(ConfigurationError, match="needs MODEL_KEY in the environment"):
        load(path, env={"OTHER": "1"})
    assert load(path, env={"OTHER": "1", "MODEL_KEY": "2"}).agent_name == "greet"


def test_an_entry_point_may_be_given_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[2.13] ``module:function`` needs no registry."""
    project(tmp_path, "def greet(task): ...\ndef handler(task): ...\n")
    monkeypatch.chdir(tmp_path)
    names = [
        resolve_handler(spoken, search=[]).agent_name
        for spoken in ("greetings:greet", "greetings:handler", "greetings.py:handler")
    ]

    assert names == ["greet", "greetings", "greetings"]


def test_a_built_in_needs_no_file() -> None:
    """[R-3] echo and adder are there without any registry; another name is not."""
    assert resolve_handler("adder", search=[]).agent_name == "adder"
    with pytest.raises(UnknownHandlerError, match="echo, adder"):
        resolve_handler("none", search=[])


def test_a_card_comes_with_its_handler(tmp_path: Path) -> None:
    """[2.12] An entry's card is read relative to the registry; a name that contradicts it is refused."""
    (tmp_path / "card.json").write_text('{"identity": {"agentName": "greeter"}}', encoding="utf-8")

    assert load(project(tmp_path, card="card.json")).agent_name == "greeter"
    with pytest.raises(ConfigurationError, match="make them equal"):
        load(project(tmp_path, card="card.json", agentName="other"))


@pytest.mark.parametrize("spoken", ["greetings.py", "greetings:handler", "greetings"])
def test_card_mode_takes_the_handler_of_the_card(tmp_path: Path, spoken: str) -> None:
    """[2.13] A card names its handler by file or by module."""
    project(tmp_path)
    card = {"identity": {"agentName": "greeter"}, "runtime": {"handler": spoken}}
    (tmp_path / "agent-card.json").write_text(json.dumps(card), encoding="utf-8")
    loaded = resolve_card(tmp_path / "agent-card.json")

    assert (loaded.agent_name, loaded.handler(None, None), loaded.card) == ("greeter", "hi", card)


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ({"runtime": {"handler": "x.py"}}, "identity.agentName is missing"),
        ({"identity": {"agentName": "a"}}, "runtime.handler is missing"),
        ({"identity": {"agentName": "a-b"}, "runtime": {"handler": "x.py"}}, "identity.agentName"),
    ],
)
def test_a_card_without_what_card_mode_needs_is_told(tmp_path: Path, card: Any, told: str) -> None:
    """[2.13] Card mode says which key is missing."""
    path = tmp_path / "agent-card.json"
    path.write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=told):
        resolve_card(path)


def test_a_plain_entry_loads_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[2.12] The public function takes an entry as a dict, relative to the working folder."""
    project(tmp_path)
    monkeypatch.chdir(tmp_path)
    function = load_handler_function({"name": "greet", "entrypoint": "greetings:handler"})

    assert function(None) == "hi"
