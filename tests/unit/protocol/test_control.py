import json
from typing import Any

import pytest

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.control import CancelRun, Drain, Probe, StartTask, WithdrawOffer, open_signed, sign

KEY = "the message key of one incarnation"

MESSAGES = [
    StartTask(task_id="a", epoch=1, digest="d", start='{"x":"ä"}'),
    CancelRun(task_id="a", epoch=2, reason="enough"),
    WithdrawOffer(task_id="a", epoch=2),
    Probe(nonce="n"),
    Drain(),
]


def signed(control: bytes, sequence: int = 7, key: str = KEY) -> dict[str, Any]:
    """Return a signed control message as it comes off the bus."""
    decoded: dict[str, Any] = json.loads(encode(sign(control, sequence, key)))
    return decoded


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_the_hub_signed_comes_back(message: Any) -> None:
    """A control message survives signing, the bus and opening."""
    assert open_signed(signed(encode(message)), KEY) == (7, message)


def test_a_changed_byte_is_noticed() -> None:
    """A message that was altered on the way is refused. [K7]"""
    body = signed(encode(MESSAGES[1]))
    body["control"] = body["control"].replace("enough", "enougH")

    with pytest.raises(InvalidMessageError, match="signature"):
        open_signed(body, KEY)


def test_another_number_is_noticed() -> None:
    """The sequence number is under the signature too."""
    body = {**signed(encode(MESSAGES[1])), "sequence": 8}

    with pytest.raises(InvalidMessageError, match="signature"):
        open_signed(body, KEY)


def test_a_forger_without_the_key_is_refused() -> None:
    """Who may write on the channel but has no key starts and cancels nothing. [K7]"""
    with pytest.raises(InvalidMessageError, match="signature"):
        open_signed(signed(encode(MESSAGES[0]), key="a guess"), KEY)


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        (b'{"type":"Reboot"}', "unsupported"),
        (b'{"type":"StartTask","taskId":"a","epoch":0,"digest":"d"}', "shape"),
        (b'{"type":"StartTask","taskId":"a","epoch":9007199254740992,"digest":"d"}', "shape"),
        (b'{"type":"CancelTask"}', "shape"),
        (b"[]", "shape"),
    ],
)
def test_unknown_and_malformed_messages_are_told_apart(control: bytes, reason: str) -> None:
    """A newer kind is unsupported, a broken one is broken; both are counted. [H6]"""
    with pytest.raises(InvalidMessageError) as raised:
        open_signed(signed(control), KEY)

    assert raised.value.reason == reason


@pytest.mark.parametrize("body", [{}, {"control": 1}, {"control": "x", "sequence": "1", "signature": ""}])
def test_what_is_not_signed_at_all_is_refused(body: dict[str, Any]) -> None:
    """Junk on the control channel is refused by its shape."""
    with pytest.raises(InvalidMessageError) as raised:
        open_signed(body, KEY)

    assert raised.value.reason == "shape"


def test_half_a_character_is_no_signature() -> None:
    """Whatever text stands where the signature belongs is compared, and is not the hub's. [H1]"""
    with pytest.raises(InvalidMessageError) as raised:
        open_signed({"control": "{}", "sequence": 1, "signature": "\ud800"}, KEY)

    assert raised.value.reason == "signature"
