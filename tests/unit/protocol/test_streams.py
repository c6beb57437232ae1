"""What a stream's messages are read as."""

from __future__ import annotations

from typing import Any

import pytest

from blocks_worker.protocol.streams import read_message


@pytest.mark.parametrize("kind", [[], {}, ["stream_data"], None, 5, "stream_later"])
def test_a_message_of_another_type_is_none_of_a_stream(kind: Any) -> None:
    """Whatever stands where the type belongs, it is compared and left aside. [H6]"""
    assert read_message({"type": kind}) is None
