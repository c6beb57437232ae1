"""Tokens: what is issued is accepted by its own kind until it expires, and nothing else is."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from support import FakeClock
from support_hub import SetClock

from blocks_worker.concurrency import Entropy
from blocks_worker.hub.auth.signing import SigningKeys
from blocks_worker.hub.auth.tokens import AUDIENCE, ISSUER, TOKEN_LIMIT, Kind, Lives, Tokens, derived
from blocks_worker.hub.problems import RefusalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock

SECRET = b"s" * 32
KEY = {"kid": "fixed"}
FIELDS = {"owner": "ann", "session": "session.1"}


def _tokens(clock: Clock | None = None, secret: bytes = SECRET) -> Tokens:
    clock = clock or SetClock()
    return Tokens(SigningKeys.fixed(secret, clock), clock=clock, entropy=Entropy())


def _payload(**changed: Any) -> dict[str, Any]:
    now = SetClock().wall_ms() // 1000
    sound = {"typ": "consumer", "iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "jti": "1", **FIELDS}
    return {**sound, "iat": now, "nbf": now, "exp": now + 60, **changed}


def _signed(payload: dict[str, Any], *, headers: dict[str, Any] | None = None, algorithm: str = "HS256") -> str:
    return jwt.encode(
        payload, derived(SECRET, "token:consumer"), algorithm=algorithm, headers={**KEY, **(headers or {})}
    )


def _without(name: str) -> str:
    payload = _payload()
    del payload[name]
    return _signed(payload)


def _unsigned(algorithm: str) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm, "typ": "JWT", **KEY}, _payload())]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def _changed(token: str) -> str:
    """Return it with another end than it has, whatever that is."""
    return token[:-2] + ("BA" if token.endswith("AA") else "AA")


FORGED: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "blank": lambda: " ",
    "no dots": lambda: "token",
    "two parts": lambda: "a.b",
    "four parts": lambda: f"{_signed(_payload())}.x",
    "not base64": lambda: "!!.!!.!!",
    "binary": lambda: "\x00.\xff.é",
    "surrogate": lambda: "\ud800.a.b",
    "an API key": lambda: "bk_0123456789012345678901234567890123",
    "oversize": lambda: _signed(_payload(pad="x" * TOKEN_LIMIT)),
    "a megabyte": lambda: "a" * 2**20,
    "alg none": lambda: _unsigned("none"),
    "alg None": lambda: _unsigned("None"),
    "alg HS256, no signature": lambda: _unsigned("HS256"),
    "alg HS384": lambda: _signed(_payload(), algorithm="HS384"),
    "alg HS512": lambda: _signed(_payload(), algorithm="HS512"),
    "no kid": lambda: jwt.encode(_payload(), derived(SECRET, "token:consumer"), algorithm="HS256"),
    "kid as path": lambda: _signed(_payload(), headers={"kid": "../../dev/null"}),
    "kid as SQL": lambda: _signed(_payload(), headers={"kid": "' OR 1=1 --"}),
    "jku": lambda: _signed(_payload(), headers={"jku": "http://127.0.0.1/keys"}),
    "x5u": lambda: _signed(_payload(), headers={"x5u": "http://127.0.0.1/keys"}),
    "jwk": lambda: _signed(_payload(), headers={"jwk": {"kty": "oct", "k": "AA"}}),
    "crit": lambda: _signed(_payload(), headers={"crit": ["exp"]}),
    "typ of the header": lambda: _signed(_payload(), headers={"typ": "at+jwt"}),
    "foreign key": lambda: jwt.encode(_payload(), b"f" * 32, algorithm="HS256", headers=KEY),
    "another kind's key": lambda: jwt.encode(
        _payload(), derived(SECRET, "token:instance"), algorithm="HS256", headers=KEY
    ),
    "the bare secret": lambda: jwt.encode(_payload(), SECRET, algorithm="HS256", headers=KEY),
    "last byte changed": lambda: _changed(_signed(_payload())),
    "payload changed": lambda: ".".join(
        [
            _signed(_payload()).split(".")[0],
            _signed(_payload(owner="root")).split(".")[1],
            _signed(_payload()).split(".")[2],
        ]
    ),
    "wrong issuer": lambda: _signed(_payload(iss="else")),
    "wrong audience": lambda: _signed(_payload(aud="else")),
    "audience of many": lambda: _signed(_payload(aud=["else", "other"])),
    "wrong kind": lambda: _signed(_payload(typ="instance")),
    "kind as list": lambda: _signed(_payload(typ=["consumer"])),
    "not yet": lambda: _signed(_payload(nbf=_payload()["nbf"] + 600, exp=_payload()["exp"] + 600)),
    "ten years": lambda: _signed(_payload(exp=_payload()["exp"] + 315_360_000)),
    "expired": lambda: _signed(_payload(nbf=1, exp=2)),
    "float times": lambda: _signed(_payload(exp=_payload()["exp"] + 0.5)),
    "endless": lambda: _signed(_payload(exp=float("1e300"))),
    "true as time": lambda: _signed(_payload(nbf=True)),
    "text as time": lambda: _signed(_payload(exp="tomorrow")),
    **{
        f"without {name}": (lambda name=name: _without(name))
        for name in ("exp", "nbf", "iat", "iss", "aud", "sub", "jti", "typ")
    },  # type: ignore[misc]
}


def test_a_token_says_to_its_own_kind_what_was_put_in() -> None:
    """A token that was issued is accepted and names its fields."""
    tokens = _tokens()

    claims = tokens.verify(Kind.CONSUMER, tokens.issue(Kind.CONSUMER, "ann", FIELDS, 60))

    assert {name: claims.fields[name] for name in (*FIELDS, "sub")} == {**FIELDS, "sub": "ann"}


def test_a_hand_made_token_with_every_part_right_is_the_baseline_of_the_forged_ones() -> None:
    """The payload that the forged ones spoil is itself accepted, so each is refused for its own fault."""
    assert _tokens().verify(Kind.CONSUMER, _signed(_payload())).fields["owner"] == "ann"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # of the forger's own signing
@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens_are_refused(name: str) -> None:
    """[G5] Whatever is wrong with a token, the answer is 401 and never another exception."""
    with pytest.raises(RefusalError) as refused:
        _tokens().verify(Kind.CONSUMER, FORGED[name]())

    assert refused.value.status == 401


@pytest.mark.parametrize(("kind", "other"), [(Kind.CONSUMER, Kind.INSTANCE), (Kind.INSTANCE, Kind.CONSUMER)])
def test_a_token_of_one_kind_does_not_pass_as_the_other(kind: Kind, other: Kind) -> None:
    """[G6] Each kind has its own key."""
    tokens = _tokens()

    with pytest.raises(RefusalError, match="TokenInvalid"):
        tokens.verify(other, tokens.issue(kind, "ann", FIELDS, 60))


@pytest.mark.parametrize(
    ("ahead", "good"), [(0, True), (100, True), (155, True), (165, False), (-55, True), (-65, False)]
)
def test_a_token_lives_its_time_and_a_minute_of_leeway(ahead: int, *, good: bool) -> None:
    """[G3] Clocks may be a minute apart, at both ends of a token's life."""
    clock = FakeClock()
    token = _tokens(clock).issue(Kind.CONSUMER, "ann", FIELDS, 100)
    clock.advance(ahead)

    if good:
        _tokens(clock).verify(Kind.CONSUMER, token)
    else:
        with pytest.raises(RefusalError):
            _tokens(clock).verify(Kind.CONSUMER, token)


def test_no_token_lives_longer_than_an_hour() -> None:
    """A longer life that is asked for is cut, and refused where it is configured."""
    clock = SetClock()
    token = _tokens(clock).issue(Kind.CONSUMER, "ann", FIELDS, 10**6)
    clock.ahead = 3700

    with pytest.raises(RefusalError, match="TokenExpired"):
        _tokens(clock).verify(Kind.CONSUMER, token)
    with pytest.raises(ValueError, match="3600"):
        Lives(access=3601, refresh=60, grant=60)
