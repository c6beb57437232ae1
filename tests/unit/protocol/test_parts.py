import copy
import json
import pickle
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.protocol.events import ArtifactRef
from blocks_worker.protocol.parts import RequestPart


def test_the_mapping_is_what_travels() -> None:
    """[2.6, A-3] json.dumps of a part gives its wire form, without absent keys."""
    part = RequestPart("a", "hello", content_type="text/plain", extra={"kind": "x"})

    assert json.loads(json.dumps(part)) == {
        "kind": "x",
        "partId": "a",
        "text": "hello",
        "contentType": "text/plain",
    }


def test_absent_is_none_and_absent() -> None:
    """[2.6] What is absent is None as an attribute and not a key."""
    part = RequestPart()

    assert (part.part_id, part.text, part.content_type, part.artifact_ref, part.extra) == (None, None, None, None, {})
    assert dict(part) == {}
    assert hasattr(part, "text")


def test_attributes_and_both_spellings_of_keys_agree() -> None:
    """[2.6] Setting an attribute changes the mapping, and attribute names work as keys."""
    part = RequestPart.from_dict({"part_id": "a", "text": "x", "n": 1})
    part.text = "y"
    part["content_type"] = "a/b"
    part.part_id = None

    assert part.to_dict() == {"text": "y", "n": 1, "contentType": "a/b"}
    assert (part["content_type"], part.get("content_type"), "content_type" in part) == ("a/b", "a/b", True)
    assert part.extra == {"n": 1}


def test_a_reference_is_an_object_and_a_dict() -> None:
    """[2.6] The attribute is an ArtifactRef, the mapping its dict; what is none is None."""
    ref = ArtifactRef(kind="inline", mime_type="image/png", size=3, data="AAAA")
    part = RequestPart("f", artifact_ref=ref)

    assert part["artifactRef"] == {"kind": "inline", "mimeType": "image/png", "size": 3, "data": "AAAA"}
    assert part.artifact_ref == ref
    assert RequestPart(artifact_ref={"kind": "moon"}).artifact_ref is None


def test_the_type_is_found_where_it_is_told() -> None:
    """[2.6] The part's own type wins, then the artifact's, then a guess by the file name."""
    named = {"kind": "inline", "fileName": "a.png"}
    types = [
        RequestPart(content_type="a/b", artifact_ref=named).mime_type,
        RequestPart(artifact_ref={**named, "mimeType": "c/d"}).mime_type,
        RequestPart(artifact_ref=named).mime_type,
        RequestPart(text="x").mime_type,
    ]

    assert types == ["a/b", "c/d", "image/png", None]


@given(st.dictionaries(st.sampled_from(["partId", "text", "artifactRef", "x"]), st.none() | st.text() | st.integers()))
def test_any_mapping_survives(wire: Any) -> None:
    """[2.6] Whatever came in is kept as it came, through copies and pickles, and equal content is equal."""
    part = RequestPart.from_dict(wire)

    assert part.to_dict() == wire
    assert part == wire
    assert pickle.loads(pickle.dumps(part)) == copy.deepcopy(part) == part  # noqa: S301 - our own bytes
    assert type(copy.copy(part)) is RequestPart
    assert part.text is None or isinstance(part.text, str)
