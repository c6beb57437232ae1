import dataclasses
import gc
import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.errors import ArtifactError
from blocks_worker.handlers.results import MAX_BYTES, MAX_VALUES, OutArtifact, Result, normalise


@dataclasses.dataclass
class Point:
    """Be a dataclass."""

    x: int
    y: object = 0


class Model:
    """Be what pydantic models look like."""

    def model_dump_json(self) -> str:
        """Return JSON."""
        return '{"a":1}'

    def model_dump(self, mode: str) -> dict[str, int]:
        """Return what JSON knows."""
        assert mode == "json"
        return {"a": 1}


class Hostile(dict[str, int]):
    """Be a dict whose every method fails."""

    def items(self) -> Any:
        """Fail."""
        raise RuntimeError("no")

    def keys(self) -> Any:
        """Fail."""
        raise RuntimeError("no")

    def __iter__(self) -> Any:
        raise RuntimeError("no")


def out(data: bytes, mime: str = "application/octet-stream", name: Any = None, output: Any = None) -> Result:
    """Return the result with this one artifact."""
    return Result([OutArtifact(data, mime, name, output)], [])


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (None, Result([], [])),
        ([], Result([], [])),
        ("hé", out("hé".encode(), "text/plain")),
        (b"\x00", out(b"\x00")),
        (bytearray(b"a"), out(b"a")),
        (memoryview(b"abcd")[::2], out(b"ac")),
        ({"artifacts": []}, Result([], [])),
        ({"artifacts": [{"data": "x"}]}, out(b"x")),
        (
            {"artifacts": [{"data": b"x", "mimeType": "a/b", "fileName": "f", "outputId": "o"}]},
            out(b"x", "a/b", "f", "o"),
        ),
        (
            {"artifacts": [{"data": "x", "mime_type": "a/b", "file_name": "f", "output_id": "o"}]},
            out(b"x", "a/b", "f", "o"),
        ),
        ({"artifacts": [{"data": {"a": [1]}}]}, out(b'{"a": [1]}', "application/json")),
        ({"artifacts": ({"data": [1]},)}, out(b"[1]", "application/json")),
        ({"artifact": "t", "mimeType": "text/plain", "fileName": "f"}, out(b"t", "text/plain", "f")),
        ({"artifact": {"data": b"t", "mimeType": "a/b"}, "mimeType": "c/d"}, out(b"t", "a/b")),
        ([{"data": "x", "mimeType": "text/plain"}], out(b"x", "text/plain")),
        ({"answer": 1}, out(b'{"answer": 1}', "application/json")),
        ({}, out(b"{}", "application/json")),
        (Point(1, Point(2)), out(b'{"x": 1, "y": {"x": 2, "y": 0}}', "application/json")),
        ({"p": Model()}, out(b'{"p": {"a": 1}}', "application/json")),
        (Model(), out(b'{"a":1}', "application/json")),
    ],
)
def test_each_form_becomes_its_artifacts(returned: Any, expected: Any) -> None:
    """[2.5, A-6] Every documented form becomes exactly its artifacts, without a warning."""
    assert normalise(returned) == expected


@pytest.mark.parametrize(
    ("returned", "named"),
    [
        (3, "returned an int,"),
        (True, "bool"),
        ({1, 2}, "set"),
        (object(), "object"),
        (Point, "type"),
        ([1, 2], "list of int"),
        (("text", "text/plain"), "tuple of str"),
        (iter([1]), "list_iterator"),
        ({"artifacts": "text"}, "'artifacts' is a str"),
        ({"artifacts": [3]}, "an int"),
        (["a", 1], "a list of str"),
        ({"artifacts": [["x"]]}, "a list"),
        ({"artifacts": [{"mimeType": "a/b"}]}, "'data'"),
        ({"artifacts": [{"data": 3}]}, "int"),
        ({"artifact": {"mimeType": "a/b"}}, "'data'"),
        ({"artifacts": [], "note": 1}, "'note'"),
        ({"artifacts": [{"data": "x", "colour": 1}]}, "'colour'"),
        ({"artifacts": [{"data": "x", "mimeType": 3}]}, "'mimeType'"),
        ({"artifacts": [{"data": "x", "fileName": "a\r\nb"}]}, "'fileName'"),
        ({"artifact": "x", "note": 1}, "'note'"),
    ],
)
def test_each_unknown_shape_gives_one_warning(returned: Any, named: Any) -> None:
    """[2.5, A-6, R-6] What is left out is named in exactly one warning; the rest counts."""
    warned = normalise(returned).warnings

    assert len(warned) == 1
    assert named in warned[0]


def test_the_rest_of_a_result_counts() -> None:
    """[2.5] An unknown entry does not take the good ones with it."""
    result = normalise({"artifacts": [{"data": "a"}, 3, {"data": "b"}]})

    assert [artifact.data for artifact in result.artifacts] == [b"a", b"b"]


def test_warnings_are_bounded() -> None:
    """A thousand unknown entries are counted, not told one by one."""
    warned = normalise({"artifacts": [3] * 1000}).warnings

    assert len(warned) == 21
    assert warned[-1].startswith("980 more")


def test_outputs_are_held_against_the_card() -> None:
    """[2.5] Another output id than the card's, and a guaranteed one that is missing, are warnings."""
    entry = {"data": "x", "outputId": "z"}
    result = normalise([entry], outputs=frozenset({"a", "b"}), guaranteed=frozenset({"a"}))

    assert ["'z'" in result.warnings[0], "'a'" in result.warnings[1]] == [True, True]
    assert result.artifacts == [OutArtifact(b"x", "application/octet-stream", None, "z")]


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        "\ud800",
        "a\udfffb",
        {1, 2},
        object(),
        b"raw",
        1j,
        pytest.param(10**5000, id="endless"),
        {"a": math.nan},
    ],
)
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    """[C6] NaN, infinities, lone surrogates, endless numbers and foreign objects never travel."""
    with pytest.raises(ArtifactError):
        normalise({"value": value})


@pytest.mark.parametrize(
    "value",
    [0, -1, 2**53, 2**53 + 1, 2**63, 2**64, pytest.param(10**400, id="digits"), 0.1, 1e308, "\0", "", "é", None],
)
def test_what_json_can_carry_comes_back_equal(value: Any) -> None:
    """[C6] Whole numbers of any size, NUL and ordinary values are carried exactly."""
    data = normalise({"value": value}).artifacts[0].data

    assert json.loads(data) == {"value": value}


def test_a_circle_is_refused() -> None:
    """A value that holds itself is refused and does not hang."""
    circle: dict[str, object] = {}
    circle["self"] = circle
    with pytest.raises(ArtifactError, match=r"[Cc]ircular"):
        normalise(circle)


def test_a_deep_value_is_refused() -> None:
    """Nesting beyond the interpreter's own limit is refused. [C20]"""
    deep: list[object] = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(ArtifactError):
        normalise({"deep": deep})


def test_an_object_with_hostile_methods_is_refused() -> None:
    """Whatever an object's methods raise, it comes out as an ArtifactError."""
    with pytest.raises(ArtifactError):
        normalise(Hostile(a=1))


def test_a_lone_surrogate_in_text_is_refused() -> None:
    """[C6] Half a character is refused with its place."""
    with pytest.raises(ArtifactError, match="at 2"):
        normalise("ab\ud800")


@pytest.mark.parametrize("size", [MAX_BYTES + 1])
@pytest.mark.parametrize("make", [lambda size: "a" * size, bytes, lambda size: {"a": "a" * size}])
def test_too_large_is_refused(make: Any, size: Any) -> None:
    """[C5] An artifact above the upload limit is refused with both numbers."""
    with pytest.raises(ArtifactError, match=str(MAX_BYTES)):
        normalise(make(size))


def test_a_generator_becomes_one_json_list() -> None:
    """[2.5] The values of a generator become one JSON list."""
    assert normalise(n for n in (1, "a", {"b": None})) == out(b'[1,"a",{"b": null}]', "application/json")


def test_an_endless_generator_is_bounded_and_closed() -> None:
    """[C4] A generator without end is stopped at the bound, and its cleanup runs."""
    closed = []

    def endless() -> Any:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    with pytest.raises(ArtifactError, match=str(MAX_VALUES)):
        normalise(endless())
    assert closed == [True]


def test_a_generators_own_exception_is_the_handlers() -> None:
    """A generator is the handler still running: what it raises is the task's failure."""

    def failing() -> Any:
        yield 1
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        normalise(failing())


def test_a_coroutine_is_told_and_closed() -> None:
    """[C4] A forgotten await is one warning, and Python does not complain later."""

    async def forgotten() -> int:
        return 1

    with warnings.catch_warnings(record=True) as complained:
        warnings.simplefilter("always")
        told = normalise(forgotten()).warnings
        gc.collect()

    assert "coroutine" in told[0]
    assert complained == []


def test_a_path_becomes_the_file_under_its_name(tmp_path: Path) -> None:
    """[2.5] A path is the file: its bytes, its name, a type by its ending."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"hello")

    assert normalise(path) == out(b"hello", "text/plain", "notes.txt")


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    """A folder or a missing file is refused by name."""
    with pytest.raises(ArtifactError, match="not a file"):
        normalise(tmp_path / name)


_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers()
    | st.builds(object)
    | st.dates()
    | st.just(Point)
    | st.builds(Point, st.integers())
    | st.functions()
)
_keys = st.sampled_from(["artifacts", "artifact", "data", "mimeType", "file_name", "outputId", "x"]) | st.text()
_junk = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(_keys | st.integers() | st.tuples(st.integers()), inner, max_size=4)
        | st.sets(st.integers() | st.text(), max_size=3)
    ),
    max_leaves=12,
)


@given(_junk)
def test_junk_never_raises_anything_else(returned: Any) -> None:
    """[C4] Any object ends in artifacts and warnings, or in an ArtifactError with a sentence."""
    try:
        result = normalise(returned)
    except ArtifactError as error:
        result = Result([], [str(error)])

    assert all(type(artifact.data) is bytes for artifact in result.artifacts)
    assert all(warning.isprintable() and warning for warning in result.warnings)


def test_an_entry_without_the_form_is_taken_as_if_it_was_returned_alone(tmp_path: Path) -> None:
    """In ``artifacts`` a text, bytes and a path need no dict round them."""
    path = tmp_path / "out.txt"
    path.write_text("hello", encoding="utf-8")

    assert normalise({"artifacts": [path, "text", b"bytes", {"data": "entry"}]}) == Result(
        [
            OutArtifact(b"hello", "text/plain", "out.txt"),
            OutArtifact(b"text", "text/plain"),
            OutArtifact(b"bytes", "application/octet-stream"),
            OutArtifact(b"entry", "application/octet-stream"),
        ],
        [],
    )
