"""Which instance a person means."""

from __future__ import annotations

import pytest

from blocks_worker.cli.fleet import instance_called
from blocks_worker.errors import ConfigurationError

IDS = ["echo-0199", "echo-0200", "one"]


@pytest.mark.parametrize(("text", "found"), [("one", "one"), ("0199", "echo-0199"), ("echo-02", "echo-0200")])
def test_an_instance_is_found_by_its_id_or_a_part(text: str, found: str) -> None:
    """A whole id may be short; of a part beginning and end will do."""
    assert instance_called(text, IDS) == found


@pytest.mark.parametrize("text", ["", "o", "ne", "020"])
def test_a_part_that_is_too_short_names_nobody(text: str) -> None:
    """A script's variable that is not set takes no instance out of service, not even the only one."""
    for ids in (IDS, IDS[-1:]):
        with pytest.raises(ConfigurationError, match="at least 4 characters"):
            instance_called(text, ids)


def test_who_is_called_alike_is_named() -> None:
    """Of several the sentence names them, of none it says where they are shown."""
    with pytest.raises(ConfigurationError, match=r"2 instances are called 'echo-0': echo-0199, echo-0200"):
        instance_called("echo-0", IDS)
    with pytest.raises(ConfigurationError, match="'blocks instances'"):
        instance_called("nobody", IDS)
