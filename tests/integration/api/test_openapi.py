"""The document of the hub's doors: whole, sound, and what a client can be made from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

import blocks_worker.hub.api as doors_of_the_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support_hub import Caller

#: Doors that take no body though their verb may have one.
WITHOUT_BODY = {
    "POST /api/v1/auth/signing-keys",
    "POST /api/v1/registry/agents/{name}/offline",
    "POST /api/v1/registry/agents/{name}/online",
}


@pytest.fixture(scope="module")
def document(hub: Caller) -> dict[str, Any]:
    """Give the document as anybody gets it."""
    answered = hub.ask("GET", "/api/v1/openapi.json")
    assert answered.headers["content-type"] == "application/json"
    return dict(answered.json)


def _operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    paths = document["paths"].items()
    return {f"{verb.upper()} {path}": said for path, verbs in paths for verb, said in verbs.items()}


def _inside(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _inside(inner)


def test_every_door_is_in_it(document: dict[str, Any]) -> None:
    """What is served is described, and nothing else is."""
    folder = Path(str(doors_of_the_hub.__file__)).parent
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    there = {f"{verb} {path}" for verb, path in re.findall(r'Door\(\s*"([A-Z]+)",\s+"([^"]+)"', code)}

    assert set(_operations(document)) == there


def test_every_schema_is_one(document: dict[str, Any]) -> None:
    """Each schema keeps to JSON Schema 2020-12, the dialect of OpenAPI 3.1; each reference leads somewhere."""
    schemas = document["components"]["schemas"]
    bodies = [found["schema"] for found in _inside(document["paths"]) if "schema" in found]
    for schema in [*schemas.values(), *bodies]:
        Draft202012Validator.check_schema(schema)

    named = {found["$ref"] for found in _inside(document) if isinstance(found.get("$ref"), str)}
    assert named == {f"#/components/schemas/{name}" for name in schemas}


def test_every_operation_is_whole(document: dict[str, Any]) -> None:
    """It has a name of its own, its parameters, its body, who may ask, and more than one answer, each described."""
    operations = _operations(document)
    assert len({said["operationId"] for said in operations.values()}) == len(operations)

    for name, said in operations.items():
        parts = [each["name"] for each in said["parameters"] if each["in"] == "path"]
        assert parts == re.findall(r"{(\w+)}", name), name
        wants_body = name.split()[0] in {"POST", "PUT"} and name not in WITHOUT_BODY
        assert ("requestBody" in said) == wants_body, f"{name}: say at its Door what it takes"
        assert all(answer["description"] for answer in said["responses"].values()), name
        assert any(status.startswith("2") for status in said["responses"]), f"{name}: say in Answers what it answers"
        known = {"consumer", "instance", "apiKey"}
        assert said["security"], f"{name}: say in Who who may ask: a consumer, an instance, an API key, or anybody"
        assert all(each.keys() <= known for each in said["security"]), name


def test_what_gives_something_says_of_which_shape(document: dict[str, Any]) -> None:
    """Every good answer but an empty one has a schema."""
    for name, said in _operations(document).items():
        good = {status: answer for status, answer in said["responses"].items() if status[0] == "2" and status != "204"}
        assert all(answer["content"] for answer in good.values()), f"{name}: say at its Door what it gives"


def test_real_answers_are_as_it_says(hub: Caller, token: str, document: dict[str, Any]) -> None:
    """A body that the hub gives fits the schema of its answer, one of a batch and a refusal too."""
    hub.connect("described")
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/api/v1/tasks", {"agentName": "described"}),
        ("POST", "/api/v1/tasks", [{"agentName": "described"}]),
        ("POST", "/api/v1/tasks", {"agentName": 5}),
        ("GET", "/api/v1/tasks", None),
        ("GET", "/api/v1/registry/agents", None),
        ("GET", "/readyz", None),
        ("GET", "/api/v1/cdm", None),
    ]
    for verb, path, body in asked:
        answered = hub.ask(verb, path, body, bearer=token)
        said = document["paths"][path][verb.lower()]["responses"][str(answered.status)]
        schema = said["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": document["components"]}).validate(answered.json)


def test_it_is_made_once(hub: Caller) -> None:
    """Whoever asks again gets the same bytes."""
    first, second = (hub.ask("GET", "/api/v1/openapi.json").body for _ in range(2))

    assert first == second


def test_no_door_reads_a_form(hub: Caller, token: str, document: dict[str, Any]) -> None:
    """[H8] A multipart body is taken apart by nobody: who takes JSON answers 4xx at once."""
    instance = hub.connect("formed")["accessToken"]
    part = b'--b\r\nContent-Disposition: form-data; name="taskId"; filename="../a"\r\n\r\nx\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    for name, said in _operations(document).items():
        verb, path = name.split()
        if "application/json" not in said.get("requestBody", {}).get("content", {}):
            continue
        held = {"consumer": token, "instance": instance, "apiKey": hub.key}[next(iter(said["security"][0]))]
        address = re.sub(r"{\w+}", "x", path)
        for count in (1, 5000):
            answered = hub.ask(verb, address, part * count + b"--b--\r\n", bearer=held, headers=headers)
            assert 400 <= answered.status < 500, (name, answered)
