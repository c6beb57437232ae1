"""The keys of a hub's signatures: one signs, those before it count until all that they signed is over."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.problems import CONFLICT, RefusalError

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.hub.auth.tokens import Lives
    from blocks_worker.state import StateFolder

#: The file of them, in the state folder.
SIGNING_KEYS = "hub-signing-keys.json"
#: Keys that are there at the same time: a new one each minute, for as long as a token lives.
MOST_KEYS = 64
#: Seconds for which an old key counts beyond the lives of what it signed: other clocks may be wrong by so much.
MARGIN = 60
#: Bytes of a key, and of its id.
_BYTES, _ID_BYTES = 32, 8


@dataclass(frozen=True)
class SigningKey:
    """Be one key. Moments are unix milliseconds; the one that signs has no end.

    Attributes:
        made: when it began to sign.
        tokens_until, grants_until: until when what it signed may be good.
    """

    id: str
    secret: bytes
    made: int
    tokens_until: int | None = None
    grants_until: int | None = None

    @property
    def until(self) -> int | None:
        """Until when anything that it signed may be good."""
        if self.tokens_until is None or self.grants_until is None:
            return None
        return max(self.tokens_until, self.grants_until)


class SigningKeys:
    """Keep the keys, the newest first; any thread may ask, and `rotate` may wait for the disk."""

    def __init__(self, keys: tuple[SigningKey, ...], *, clock: Clock, folder: StateFolder | None = None) -> None:
        self._keys = keys
        self._clock = clock
        self._folder = folder
        self._rotating = threading.Lock()

    @classmethod
    def of(cls, folder: StateFolder, *, clock: Clock, entropy: Entropy) -> SigningKeys:
        """Return the keys of a state folder; the first one is made where there is none.

        Raises:
            ConfigurationError: their file can be read by others, or is not what it should be.
        """
        kept = read_keys(folder)
        keys = cls(kept or (_new_key(clock, entropy),), clock=clock, folder=folder)
        if not kept:
            keys._save(keys._keys)
        return keys

    @classmethod
    def fixed(cls, secret: bytes, clock: Clock) -> SigningKeys:
        """Return one key that is nowhere kept."""
        return cls((SigningKey("fixed", secret, 0),), clock=clock)

    @property
    def newest(self) -> SigningKey:
        """The key that signs."""
        return self._keys[0]

    def of_tokens(self, key_id: object) -> bytes | None:
        """Return the secret of the key with this id, if tokens that it signed may be good."""
        now = self._clock.wall_ms()
        for key in self._keys:
            if key.id == key_id and (key.tokens_until is None or now < key.tokens_until):
                return key.secret
        return None

    def of_grants(self) -> list[bytes]:
        """Return the secrets of all keys of which grants may be good, the one that signs first."""
        now = self._clock.wall_ms()
        return [key.secret for key in self._keys if key.grants_until is None or now < key.grants_until]

    def rotate(self, lives: Lives, entropy: Entropy) -> tuple[SigningKey, ...]:
        """Have a new key sign; return all that count, the new one first. It is on the disk before it signs.

        Raises:
            RefusalError: 409: too many count still.
            ConfigurationError: the state folder cannot be written.
        """
        with self._rotating:
            now = self._clock.wall_ms()
            old = replace(
                self._keys[0],
                tokens_until=now + (lives.access + MARGIN) * 1000,
                grants_until=now + (lives.grant + MARGIN) * 1000,
            )
            left = [key for key in (old, *self._keys[1:]) if key.until is None or now < key.until]
            if len(left) >= MOST_KEYS:
                raise _too_many(now, min(key.until or now for key in left))
            keys = (_new_key(self._clock, entropy), *left)
            self._save(keys)
            self._keys = keys
            return keys

    def _save(self, keys: tuple[SigningKey, ...]) -> None:
        if self._folder is not None:
            self._folder.save_json(SIGNING_KEYS, {"keys": [_written(key) for key in keys]})


def read_keys(folder: StateFolder) -> tuple[SigningKey, ...]:
    """Return the keys of a state folder, the newest first; none where none was made.

    Raises:
        ConfigurationError: their file can be read by others, or is not what it should be.
    """
    kept = folder.private_json(SIGNING_KEYS)
    try:
        keys = tuple(_read(each) for each in ({"keys": []} if kept is None else kept)["keys"])
        is_sound = kept is None or (keys and keys[0].until is None)
    except (KeyError, TypeError, ValueError):
        is_sound = False
    if not is_sound:
        cure = "delete it and start again: all tokens end, and workers and clients get others with their API keys"
        raise ConfigurationError(f"{folder.path / SIGNING_KEYS} is not what a hub writes; {cure}")
    return keys


def _new_key(clock: Clock, entropy: Entropy) -> SigningKey:
    return SigningKey(entropy.name(_ID_BYTES), entropy.bytes(_BYTES), clock.wall_ms())


def _written(key: SigningKey) -> dict[str, object]:
    return {
        "id": key.id,
        "secret": key.secret.hex(),
        "made": key.made,
        "tokensUntil": key.tokens_until,
        "grantsUntil": key.grants_until,
    }


def _read(kept: dict[str, object]) -> SigningKey:
    """Return a key that was written.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    secret, until = bytes.fromhex(str(kept["secret"])), [kept["tokensUntil"], kept["grantsUntil"]]
    if len(secret) < _BYTES:
        raise ValueError("a secret that short is none")
    tokens, grants = (None if moment is None else int(str(moment)) for moment in until)
    return SigningKey(str(kept["id"]), secret, int(str(kept["made"])), tokens, grants)


def _too_many(now: int, free: int) -> RefusalError:
    seconds = max(1, (free - now) // 1000)
    text = f"{MOST_KEYS} signing keys count still: the next one may be made in {seconds} s"
    return RefusalError(CONFLICT, "TooManyKeys", text)
