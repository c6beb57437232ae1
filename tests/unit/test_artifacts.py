"""Artifacts: they survive the journey, and their names harm nobody."""

from __future__ import annotations

import base64
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.artifacts import (
    build_artifact_ref,
    decode_inline_artifact,
    download_artifact,
    inline_artifact,
    safe_file_name,
    should_inline_artifact,
)
from blocks_worker.client.results import TaskResult, save_all
from blocks_worker.errors import ArtifactError
from blocks_worker.protocol.events import ArtifactRef

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = [
    "../evil", "../../etc/passwd", "/etc/passwd", "/", "//", "..", ".", "...", "", " ", "a/../../b", "..\\..\\evil",
    "C:\\Windows\\system.ini", "C:evil", "C:", "\\\\server\\share\\x", "a\x00b", "\x00", "nul", "NUL.txt", "con",
    "COM1.log", "lpt9", "aux.", "x.txt:stream", "~root", "-rf", "a\u202egnp.exe", "\u2066x\u2069", "line\nbreak",
    "\x1b[31mred", "x" * 5000, "é" * 300 + ".txt", "trail. ", "\ud800", "…/x", "CONIN$", "\u2028", 'a|b<c>?*"',
]  # fmt: skip


@given(st.binary(max_size=500))
def test_inline_round_trip(data: bytes) -> None:
    """Bytes that travel inside an event come out as they went in, with their size and hash."""
    ref = inline_artifact(data, mime_type="text/plain", file_name="a.txt")

    assert (ref.size, decode_inline_artifact(ArtifactRef.from_dict(ref.to_dict()))) == (len(data), data)


def test_limit_is_inside() -> None:
    """The inline limit itself still travels inside; one byte more is refused with both numbers."""
    assert should_inline_artifact(16_384)
    assert not should_inline_artifact(16_385)
    with pytest.raises(ArtifactError, match=r"11 bytes where 10"):
        inline_artifact(b"x" * 11, mime_type="text/plain", limit=10)


@pytest.mark.parametrize(
    "fields",
    [
        {"data": "%%%"},
        {"data": base64.b64encode(b"x").decode(), "hash": "0" * 64},
        {"data": None, "size": 3},
        {"data": "eA", "size": 1},
    ],
)
def test_broken_data(fields: dict[str, object]) -> None:
    """Data that is not base64, not there or not what its hash says is refused."""
    with pytest.raises(ArtifactError):
        decode_inline_artifact({"kind": "inline", **fields})


def test_stored_file_is_told() -> None:
    """A reference to a file names it, and reading it says that this cannot be done here."""
    ref = build_artifact_ref(data=b"abc", file={"id": "f1", "name": "a.bin", "channel": "c", "expires_at": 5})

    assert (ref["kind"], ref["fileId"], ref["fileName"], ref["size"]) == ("file", "f1", "a.bin", 3)
    with pytest.raises(ArtifactError, match="file store"):
        download_artifact(ref)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    """[G] Whatever a sender calls a file, it lands in the folder, twice without overwriting, and nowhere else."""
    folder = tmp_path / "out"
    ref = inline_artifact(b"data", mime_type="text/plain", file_name=name)

    paths = save_all([ref, ref], folder)

    assert len(set(paths)) == 2
    assert all(path.resolve().parent == folder.resolve() and path.read_bytes() == b"data" for path in paths)
    assert sorted(tmp_path.iterdir()) == [folder]
    assert sorted(folder.iterdir()) == sorted(paths)


@given(st.text(max_size=300))
def test_any_name_is_clean(name: str) -> None:
    """A cleaned name has no separator, control or bidirectional character, and fits a file system."""
    clean = safe_file_name(name, "default")

    assert clean
    assert clean not in {".", ".."}
    assert not any(char in '/\\:<>"|?*' or unicodedata.category(char)[0] == "C" for char in clean)
    assert len(clean.encode()) <= 255


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Equal names get -2 and -3 before the extension; what stands there, a link too, is left alone."""
    (tmp_path / "a.txt").write_text("mine")
    (tmp_path / "a-2.txt").symlink_to(tmp_path / "elsewhere")
    ref = inline_artifact(b"new", mime_type="text/plain", file_name="a.txt")

    paths = save_all([ref], tmp_path)

    assert [path.name for path in paths] == ["a-3.txt"]
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_three_hundred_hostile_names(tmp_path: Path) -> None:
    """[F2, F7, R-8] 300 names in one go: each artifact gets a file of its own, all of them in the folder."""
    ends = ["", "/../x", "\\..\\y", "\x00", ".txt", "\u202e", " ", ":z", "\u0301"]
    names = [name + end for name in [*HOSTILE, "A.txt", "a.TXT", "\u212b", "\u00c5", "A\u030a"] for end in ends][:300]
    refs = [inline_artifact(b"%d" % index, mime_type="text/plain", file_name=name) for index, name in enumerate(names)]

    paths = save_all(refs, tmp_path / "out")

    assert len(set(paths)) == len(refs) == 300
    assert [path.read_bytes() for path in paths] == [b"%d" % index for index in range(300)]
    assert sorted(tmp_path.rglob("*")) == sorted([tmp_path / "out", *paths])


def test_a_folder_swapped_for_a_link_is_not_followed(tmp_path: Path) -> None:
    """[F3] Somebody who puts a link in the folder's place while it is written gets nothing."""
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()

    class Racer:
        def file_pieces(self, ref: ArtifactRef) -> Iterator[bytes]:
            if not folder.is_symlink():
                folder.rename(tmp_path / "moved")
                folder.symlink_to(elsewhere)
            yield str(ref.file_id).encode()

    save_all([ArtifactRef(kind="file", file_id=name, file_name=name) for name in ("a", "b")], folder, Racer())

    assert list(elsewhere.iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == ["a", "b"]


def test_what_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    """An artifact that cannot be read to its end leaves nothing that looks like one."""

    class Breaks:
        def file_pieces(self, ref: ArtifactRef) -> Iterator[bytes]:
            yield b"half"
            raise ArtifactError(f"{ref.file_id} broke off")

    with pytest.raises(ArtifactError, match="broke off"):
        save_all([ArtifactRef(kind="file", file_id="x", file_name="x")], tmp_path / "out", Breaks())

    assert list((tmp_path / "out").iterdir()) == []


def test_default_names(tmp_path: Path) -> None:
    """Artifacts without a name are numbered."""
    ref = inline_artifact(b"x", mime_type="text/plain")

    assert [path.name for path in save_all([ref, ref], tmp_path)] == ["artifact-0", "artifact-1"]


def test_result() -> None:
    """A result is read as text or JSON; what is no JSON says so."""
    text = TaskResult("t", [download_artifact(inline_artifact(b"hi", mime_type="text/plain"))])
    number = TaskResult("t", [download_artifact(inline_artifact(b"[1]", mime_type="application/json"))])

    assert (text.text, number.json()) == ("hi", [1])
    for wrong in (text, TaskResult("t", [])):
        with pytest.raises(ArtifactError):
            wrong.json()
