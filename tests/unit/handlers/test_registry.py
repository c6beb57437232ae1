import json
from pathlib import Path

import pytest

from blocks_worker.errors import UnknownHandlerError
from blocks_worker.handlers.registry import (
    find_handler_entry,
    get_available_handlers,
    load_registry,
    search_places,
)

GOOD = {"name": "greet", "entrypoint": "greetings:handler"}


def write(folder: Path, content: object) -> Path:
    """Write a registry file."""
    path = folder / "registry.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def registry(**entry: object) -> dict[str, object]:
    """Return a registry with one entry."""
    return {"schemaVersion": "1.0", "handlers": [{**GOOD, **entry}]}


def test_built_ins_are_always_there(tmp_path: Path) -> None:
    """[2.12] A file adds to echo and adder."""
    loaded = load_registry(write(tmp_path, registry()))

    assert get_available_handlers(loaded) == ["greet", "echo", "adder"]


def test_a_file_may_define_a_built_in_name_itself(tmp_path: Path) -> None:
    """[2.12] The user's own echo wins."""
    loaded = load_registry(write(tmp_path, registry(name="echo")))

    assert find_handler_entry(loaded, "echo").module == "greetings"
    assert get_available_handlers(loaded) == ["echo", "adder"]


def test_other_runtimes_are_skipped(tmp_path: Path) -> None:
    """[2.12] An entry of another runtime is neither checked nor offered."""
    foreign = {"name": "js", "runtime": "node", "whatever": 1}
    loaded = load_registry(write(tmp_path, {"schemaVersion": "1.0", "handlers": [GOOD, foreign]}))

    assert "js" not in get_available_handlers(loaded)
    assert get_available_handlers(loaded, "node") == ["js"]


def test_both_spellings_of_an_entry_point(tmp_path: Path) -> None:
    """[2.12] A string and a path with symbol mean the same kind of thing."""
    entry = find_handler_entry(
        load_registry(write(tmp_path, registry(entrypoint={"path": "a.py", "symbol": "f"}))), "greet"
    )

    assert (entry.module, entry.symbol, entry.folder) == ("a.py", "f", tmp_path)


def test_an_unknown_name_names_the_available(tmp_path: Path) -> None:
    """[2.12] An unknown handler is told with all that there are."""
    with pytest.raises(UnknownHandlerError, match="available: greet, echo, adder"):
        find_handler_entry(load_registry(write(tmp_path, registry())), "greeet")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{\n "handlers": [,]\n}', "line 2"),
        ("[]", "it must be dict"),
        ({"schemaVersion": "1.0"}, "handlers is missing"),
        ({"schemaVersion": "1.0", "handlers": []}, "at least one"),
        ({"schemaVersion": "", "handlers": [GOOD]}, "schemaVersion is empty"),
        ({"schemaVersion": 1, "handlers": [GOOD]}, "schemaVersion is int"),
        ({"schemaVersion": "1.0", "handlers": [GOOD], "handler": 1}, "did you mean 'handlers'"),
        ({"schemaVersion": "1.0", "handlers": [GOOD, GOOD]}, "'greet' is there twice"),
        ({"schemaVersion": "1.0", "handlers": ["greet"]}, r"handlers\[0\] is str"),
        (registry(entryPoint="x:y"), "did you mean 'entrypoint'"),
        (registry(name=""), r"handlers\[0\].name"),
        (registry(name="a b"), "a b"),
        (registry(entrypoint="greetings"), "package.module:function"),
        (registry(entrypoint={"path": ""}), "package.module:function"),
        (registry(entrypoint=None), "entrypoint is missing"),
        (registry(agentName="a-b"), "write 'a_b'"),
        (registry(tags="x"), r"tags is str"),
        (registry(requiresEnv=[1]), r"requiresEnv\[0\] is int"),
        (registry(defaults={"concurrency": True}), "concurrency"),
        (registry(defaults={"concurency": 1}), "did you mean 'concurrency'"),
    ],
)
def test_a_bad_file_is_told_with_its_place(tmp_path: Path, content: object, told: str) -> None:
    """[2.12] Broken JSON is told with its line, a wrong or unknown key with its path."""
    with pytest.raises(ValueError, match=told):
        load_registry(write(tmp_path, content))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """[2.12] A registry that was named and is not there is a FileNotFoundError."""
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        load_registry(tmp_path / "nowhere.json")


def test_where_a_registry_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[2.12] The variable, then the working folder, then the package's own."""
    monkeypatch.chdir(tmp_path)
    names = [get_available_handlers(load_registry())]
    write(tmp_path, registry(name="here"))
    names.append(get_available_handlers(load_registry()))
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("BLOCKS_REGISTRY", str(write(other, registry(name="named"))))
    names.append(get_available_handlers(load_registry()))

    assert [listed[0] for listed in names] == ["echo", "here", "named"]
    assert search_places(tmp_path) == [tmp_path / "registry.json", tmp_path / "blocks_worker" / "registry.json"]
