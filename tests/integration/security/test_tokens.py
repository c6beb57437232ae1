"""[K1] Tokens that the hub never made: each differs in one thing from one that is good."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from blocks_worker.hub.auth.signing import SigningKey, read_keys
from blocks_worker.hub.auth.tokens import AUDIENCE, ISSUER, TOKEN_LIMIT, derived
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from support_probes import Arena, World

pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # of the forger's own signing
WHERE = ("GET", "/api/v1/tasks")


class Forger:
    """Know the key with which the hub signs, which nobody else does, and one good payload."""

    def __init__(self, signing: SigningKey, key: str) -> None:
        self.root, self.kid = signing.secret, signing.id
        now = int(time.time())
        self.payload: dict[str, Any] = {
            "owner": "ann",
            "session": "session.1",
            "key": key,
            "typ": "consumer",
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ann",
            "jti": "1",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
        }

    def token(self, *, headers: dict[str, Any] | None = None, of: str = "token:consumer", **changed: Any) -> str:
        """Return a token with a sound signature and these changes; what becomes None is left out."""
        payload = {name: value for name, value in {**self.payload, **changed}.items() if value is not None}
        return jwt.encode(
            payload, derived(self.root, of), algorithm="HS256", headers={"kid": self.kid, **(headers or {})}
        )

    def parts(self, header: object, payload: object = None, signature: str = "") -> str:
        """Return a token from its parts, as text or as what is to be JSON."""
        said = [header, self.payload if payload is None else payload]
        texts = [part if isinstance(part, str) else json.dumps(part) for part in said]
        encoded = [base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode() for text in texts]
        return ".".join([*encoded, signature])

    def resigned(self, header: str, payload: str) -> str:
        """Return parts as they are given, with the signature that the hub would make; KID is the id of its key."""
        unsigned = self.parts(header.replace("KID", self.kid), payload).rpartition(".")[0].encode()
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
            unsigned, derived(self.root, "token:consumer")
        )
        return f"{unsigned.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


SOUND = '{"alg":"HS256","typ":"JWT","kid":"KID"}'
#: One line a probe.
FORGED: dict[str, Callable[[Forger], str]] = {
    "no token at all": lambda _: "x",
    "two parts": lambda f: f.token().rpartition(".")[0],
    "four parts": lambda f: f.token() + ".x",
    "empty signature": lambda f: f.token().rpartition(".")[0] + ".",
    "cut signature": lambda f: f.token()[:-4],
    "longer signature": lambda f: f.token() + "AAAA",
    "flipped signature": lambda f: f.token()[:-3] + ("AAA" if not f.token().endswith("AAA") else "BBB"),
    "signature of another": lambda f: f.token(sub="x").rpartition(".")[0] + "." + f.token().rpartition(".")[2],
    "none": lambda f: f.parts({"alg": "none", "typ": "JWT", "kid": f.kid}),
    "None": lambda f: f.parts({"alg": "None", "typ": "JWT", "kid": f.kid}),
    "NONE, signed": lambda f: f.resigned('{"alg":"NONE","typ":"JWT","kid":"KID"}', json.dumps(f.payload)),
    "no algorithm": lambda f: f.resigned('{"typ":"JWT","kid":"KID"}', json.dumps(f.payload)),
    "HS384": lambda f: jwt.encode(
        f.payload, derived(f.root, "token:consumer"), algorithm="HS384", headers={"kid": f.kid}
    ),
    "HS512": lambda f: jwt.encode(
        f.payload, derived(f.root, "token:consumer"), algorithm="HS512", headers={"kid": f.kid}
    ),
    "RS256 by name": lambda f: f.resigned('{"alg":"RS256","typ":"JWT","kid":"KID"}', json.dumps(f.payload)),
    "algorithm as list": lambda f: f.resigned('{"alg":["HS256"],"typ":"JWT","kid":"KID"}', json.dumps(f.payload)),
    "key empty": lambda f: jwt.encode(f.payload, b"0", algorithm="HS256", headers={"kid": f.kid}),
    "key of an instance": lambda f: f.token(of="token:instance"),
    "key of the network": lambda f: f.token(of="network"),
    "the root itself": lambda f: jwt.encode(f.payload, f.root, algorithm="HS256", headers={"kid": f.kid}),
    "no kid": lambda f: f.resigned('{"alg":"HS256","typ":"JWT"}', json.dumps(f.payload)),
    "kid is a number": lambda f: f.resigned('{"alg":"HS256","typ":"JWT","kid":0}', json.dumps(f.payload)),
    "kid is a list": lambda f: f.resigned('{"alg":"HS256","typ":"JWT","kid":["KID"]}', json.dumps(f.payload)),
    "kid is a path": lambda f: f.token(headers={"kid": "../../../dev/null"}),
    "kid is SQL": lambda f: f.token(headers={"kid": "' OR 1=1 --"}),
    "jku": lambda f: f.token(headers={"jku": "http://127.0.0.1/jwks"}),
    "x5u": lambda f: f.token(headers={"x5u": "http://127.0.0.1/x5u"}),
    "jwk": lambda f: f.token(headers={"jwk": {"kty": "oct", "k": "AAAA"}}),
    "crit": lambda f: f.token(headers={"crit": ["exp"]}),
    "b64 false": lambda f: f.token(headers={"b64": False}),
    "zip": lambda f: f.token(headers={"zip": "DEF"}),
    "typ of the header": lambda f: f.token(headers={"typ": "at+jwt"}),
    "nested": lambda f: f.token(headers={"cty": "JWT"}),
    "doubled algorithm": lambda f: f.resigned(
        '{"alg":"none","alg":"HS512","typ":"JWT","kid":"KID"}', json.dumps(f.payload)
    ),
    "header no object": lambda f: f.resigned('["HS256"]', json.dumps(f.payload)),
    "header deep": lambda f: f.resigned("[" * 900 + "]" * 900, json.dumps(f.payload)),
    "payload no object": lambda f: f.resigned(SOUND, "[]"),
    "payload deep": lambda f: f.resigned(SOUND, '{"a":' * 900 + "1" + "}" * 900),
    "payload no JSON": lambda f: f.resigned(SOUND, "{"),
    "payload no UTF-8": lambda f: f.resigned(SOUND, "\udcff".encode("utf-8", "surrogatepass").decode("latin-1")),
    "wrong issuer": lambda f: f.token(iss="else"),
    "issuer as list": lambda f: f.resigned(SOUND, json.dumps({**f.payload, "iss": [ISSUER]})),
    "wrong audience": lambda f: f.token(aud="else"),
    "other audiences": lambda f: f.token(aud=["else", "other"]),
    "wrong kind": lambda f: f.token(typ="instance"),
    "kind in capitals": lambda f: f.token(typ="CONSUMER"),
    "kind as list": lambda f: f.token(typ=["consumer"]),
    "subject a number": lambda f: f.token(sub=1),
    "owner a number": lambda f: f.token(owner=1),
    "owner a list": lambda f: f.token(owner=["ann"]),
    "without owner": lambda f: f.token(owner=None),
    "without session": lambda f: f.token(session=None),
    "without key": lambda f: f.token(key=None),
    "expired": lambda f: f.token(nbf=f.payload["nbf"] - 3000, exp=f.payload["iat"] - 61),
    "expired long ago": lambda f: f.token(iat=1, nbf=1, exp=2),
    "not yet": lambda f: f.token(nbf=f.payload["nbf"] + 120),
    "ten years": lambda f: f.token(exp=f.payload["exp"] + 315_360_000),
    "an hour and more": lambda f: f.token(exp=f.payload["nbf"] + 3601),
    "ends before it begins": lambda f: f.token(nbf=f.payload["nbf"] + 600, exp=f.payload["nbf"] + 500),
    "float times": lambda f: f.token(exp=f.payload["exp"] + 0.5),
    "infinite": lambda f: f.resigned(SOUND, json.dumps({**f.payload, "exp": float("inf")})),
    "NaN": lambda f: f.resigned(SOUND, json.dumps({**f.payload, "exp": float("nan")})),
    "true as time": lambda f: f.token(nbf=True),
    "time as text": lambda f: f.token(exp=str(f.payload["exp"])),
    "negative time": lambda f: f.token(exp=-1, nbf=-2),
    "huge time": lambda f: f.resigned(SOUND, json.dumps({**f.payload, "exp": 10**400})),
    "over the limit": lambda f: f.token(pad="x" * TOKEN_LIMIT),
    "as long as a head may be": lambda _: "a" * 15_000,
    **{f"without {name}": lambda f, name=name: f.token(**{name: None}) for name in ("exp", "nbf", "iat", "jti")},  # type: ignore[misc]
    **{f"lacks {name}": lambda f, name=name: f.token(**{name: None}) for name in ("iss", "aud", "sub", "typ")},  # type: ignore[misc]
}


@pytest.fixture(scope="module")
def forger(stage: Arena, ann: World) -> Forger:
    """Give who can sign as the hub does."""
    claims = jwt.decode(ann.consumer, options={"verify_signature": False})
    return Forger(read_keys(StateFolder(stage.folder))[0], claims["key"])


def test_what_the_forged_ones_spoil_is_good(stage: Arena, forger: Forger) -> None:
    """With every part right a token made by hand opens the door, so each forged one is refused for its own fault."""
    again = forger.resigned(SOUND, json.dumps(forger.payload))

    assert [stage.hub.ask(*WHERE, bearer=token).status for token in (forger.token(), again)] == [200, 200]


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens_open_nothing(stage: Arena, forger: Forger, name: str) -> None:
    """[K1] Whatever is wrong, the answer is 401 with a code, nobody is named, and a record is left."""
    answered, record = stage.refused(*WHERE, bearer=FORGED[name](forger))

    assert (answered.status, answered.code[:5]) == (401, "Token")
    assert (record["code"], record["route"]) == (answered.code, "/api/v1/tasks")
    assert "by" not in record


def test_doubled_claims_count_once(stage: Arena, forger: Forger) -> None:
    """[K1] Of a claim that stands twice the last counts for all checks and for who it is, so none sees another."""
    payload = json.dumps(forger.payload)
    doubled = '{"owner":"bob",' + payload[1:]

    row = stage.hub.ask("POST", "/api/v1/auth/session", {}, bearer=forger.resigned(SOUND, doubled))

    assert row.json["userId"] == "ann"


@pytest.mark.parametrize("size", [17_000, 60_000])
def test_a_token_longer_than_a_head_is_no_request(stage: Arena, size: int) -> None:
    """[K1] What does not fit the head of a request is refused before anybody looks at it."""
    answered, record = stage.refused(*WHERE, bearer="a" * size)

    assert (answered.status, record["status"]) == (431, 431)
