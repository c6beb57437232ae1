import pytest

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.channels import (
    AGENT,
    INSTANCE,
    OWNER,
    TASK,
    check_name,
    control_channel,
    session_channel,
    task_channel,
    wake_channel,
)


def test_channel_names() -> None:
    """The names are those that the wire promises."""
    assert control_channel("ab12") == "agent.ab12.control"
    assert task_channel("me", "t-1") == "u.me.t-1"
    assert session_channel("s") == "session.s"
    assert wake_channel("i") == "w.i"


@pytest.mark.parametrize("hostile", ["*", "a.b", "a,b", "a>", "a-pnpres ", "", " ", "a\n", "ä", "a/b", "x" * 100])
@pytest.mark.parametrize("pattern", [OWNER, AGENT, INSTANCE, TASK])
def test_what_has_a_meaning_in_a_channel_is_refused(hostile: str, pattern: object) -> None:
    """No name can widen a grant or split a list of channels. [G11]"""
    with pytest.raises(InvalidMessageError, match="does not match"):
        check_name("name", hostile, pattern)  # type: ignore[arg-type]


def test_a_good_name_comes_back() -> None:
    """A name that fits is returned as it is."""
    assert check_name("agent", "echo_2", AGENT) == "echo_2"
