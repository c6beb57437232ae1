"""Access tokens and opaque secrets: how they are made, and the checks one has to pass."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import jwt

from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.problems import UNAUTHORIZED, RefusalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.hub.auth.signing import SigningKeys

ISSUER = "blocks-hub"
AUDIENCE = "blocks-hub"
ALGORITHM = "HS256"
#: Bytes of a token that is looked at.
TOKEN_LIMIT = 8192
#: Seconds by which another clock may be wrong.
LEEWAY = 60
#: Seconds that an access token lives at most.
LONGEST_LIFE = 3600
#: Seconds that a channel grant lives at most: thirty days, the hosted network's bound.
LONGEST_GRANT = 30 * 86_400

_REQUIRED = ("exp", "nbf", "iat", "iss", "aud", "sub", "jti", "typ")
_OWN_HEADERS = {"alg": ALGORITHM, "typ": "JWT"}
#: The header that names the key; nothing else in the header is believed.
_KEY_ID = "kid"


class Kind(str, Enum):
    """Who a token is for; each kind has a key of its own, so that none passes as another."""

    INSTANCE = "instance"
    CONSUMER = "consumer"


@dataclass(frozen=True)
class Lives:
    """How long credentials live, in seconds: access tokens, refresh tokens, channel grants."""

    access: int
    refresh: int
    grant: int

    def __post_init__(self) -> None:
        if not 0 < self.access <= LONGEST_LIFE:
            raise ConfigurationError(f"an access token lives 1 to {LONGEST_LIFE} seconds, not {self.access}")
        if self.refresh < 1 or not 0 < self.grant <= LONGEST_GRANT:
            raise ConfigurationError(
                f"a refresh token lives 1 second at least, a grant 1 to {LONGEST_GRANT} seconds: "
                f"not {self.refresh} and {self.grant}"
            )


@dataclass(frozen=True)
class Claims:
    """Be what a checked token says; `expires` is unix seconds."""

    expires: int
    fields: Mapping[str, str]


class Tokens:
    """Issue and check access tokens: HS256, of each signing key one derived key a kind.

    Of a token's header only the id of the key is taken, and looked up among those that count.
    """

    def __init__(self, keys: SigningKeys, *, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        self._keys = keys

    def issue(self, kind: Kind, subject: str, fields: Mapping[str, str], life: int) -> str:
        """Return a token of this kind that lives `life` seconds."""
        now = self._now()
        payload = {
            **fields,
            "typ": kind.value,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": now,
            "nbf": now,
            "exp": now + min(life, LONGEST_LIFE),
            "jti": self._entropy.name(),
        }
        key = self._keys.newest
        return jwt.encode(payload, _key_of(key.secret, kind), algorithm=ALGORITHM, headers={_KEY_ID: key.id})

    def verify(self, kind: Kind, token: str) -> Claims:
        """Return what the token says.

        Raises:
            RefusalError: 401 with code ``TokenInvalid`` or ``TokenExpired``.
        """
        if len(token) > TOKEN_LIMIT:
            raise _invalid("is longer than a token can be")
        payload = self._decoded(kind, token)
        self._check_times(payload)
        fields = {name: value for name, value in payload.items() if isinstance(value, str)}
        return Claims(payload["exp"], fields)

    def _decoded(self, kind: Kind, token: str) -> dict[str, Any]:
        """Check form, signature, issuer and audience; times are checked by our own clock."""
        try:
            headers = jwt.get_unverified_header(token)
            secret = self._keys.of_tokens(headers.pop(_KEY_ID, None))
            if headers != _OWN_HEADERS:
                raise _invalid("has a header that the hub does not write")
            if secret is None:
                raise _invalid("was signed with a key that does not count any more: get a new one")
            payload: dict[str, Any] = jwt.decode(
                token,
                _key_of(secret, kind),
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": list(_REQUIRED), "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _invalid("is not one of the hub's for this call") from error
        if payload["typ"] != kind.value:
            raise _invalid("is not one of the hub's for this call")
        return payload

    def _check_times(self, payload: dict[str, Any]) -> None:
        times = [payload[name] for name in ("nbf", "exp", "iat")]
        if not all(type(value) is int for value in times):
            raise _invalid("has times that are not whole seconds")
        now = self._now()
        if payload["exp"] - payload["nbf"] > LONGEST_LIFE or payload["nbf"] > now + LEEWAY:
            raise _invalid("is valid for another time")
        if payload["exp"] <= now - LEEWAY:
            raise RefusalError(UNAUTHORIZED, "TokenExpired", "the token has expired: refresh it")

    def _now(self) -> int:
        return self._clock.wall_ms() // 1000


def _key_of(secret: bytes, kind: Kind) -> bytes:
    return derived(secret, f"token:{kind.value}")


def network_key(secret: bytes) -> bytes:
    """Return the key for grants of the network that a signing key stands for."""
    return derived(secret, "network")


def derived(secret: bytes, purpose: str) -> bytes:
    """Return the key for one purpose; knowing it tells nothing of the others."""
    return hmac.new(secret, purpose.encode(), hashlib.sha256).digest()


def hashed(credential: str) -> str:
    """Return what the ledger keeps of an API key or refresh token."""
    return hashlib.sha256(credential.encode("utf-8", errors="replace")).hexdigest()


def _invalid(why: str) -> RefusalError:
    return RefusalError(UNAUTHORIZED, "TokenInvalid", f"the token {why}")
