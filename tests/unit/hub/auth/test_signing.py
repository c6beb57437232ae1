from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support import FakeClock, SeededEntropy

from blocks_worker.errors import ConfigurationError
from blocks_worker.hub.auth.signing import MARGIN, MOST_KEYS, SIGNING_KEYS, SigningKeys, read_keys
from blocks_worker.hub.auth.tokens import LEEWAY, Kind, Lives, Tokens
from blocks_worker.hub.problems import RefusalError
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from pathlib import Path

LIVES = Lives(access=100, refresh=1000, grant=50)


class _Signer:
    """Sign tokens with the keys of a folder."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.entropy, self.folder = FakeClock(), SeededEntropy(), StateFolder(folder)
        self.restart()

    def restart(self) -> None:
        self.keys = SigningKeys.of(self.folder, clock=self.clock, entropy=self.entropy)
        self.tokens = Tokens(self.keys, clock=self.clock, entropy=self.entropy)

    def token(self) -> str:
        return self.tokens.issue(Kind.CONSUMER, "ann", {"owner": "ann"}, LIVES.access)

    def takes(self, token: str) -> bool:
        try:
            return self.tokens.verify(Kind.CONSUMER, token).fields["owner"] == "ann"
        except RefusalError:
            return False


@pytest.fixture
def signer(tmp_path: Path) -> _Signer:
    """Be a signer with a folder of its own."""
    return _Signer(tmp_path)


def test_what_was_signed_before_stays_good(signer: _Signer) -> None:
    """[G10] Behind each rotation the tokens of all keys count for as long as they live, over a restart too."""
    tokens = [signer.token()]
    for _ in range(3):
        signer.keys.rotate(LIVES, signer.entropy)
        tokens.append(signer.token())
        signer.restart()

    assert [signer.takes(token) for token in tokens] == [True] * 4
    assert len({key.id for key in read_keys(signer.folder)}) == 4


def test_a_key_whose_time_is_over_opens_nothing(signer: _Signer) -> None:
    """[G10] [K1] A key that signs no more is refused once all it signed is over, even below a token that is not."""
    old = signer.keys.newest
    signer.keys.rotate(LIVES, signer.entropy)
    signer.clock.advance(LIVES.access + MARGIN - 1)
    forger = Tokens(SigningKeys((old,), clock=signer.clock), clock=signer.clock, entropy=signer.entropy)
    forged = forger.issue(Kind.CONSUMER, "ann", {"owner": "ann"}, 3600)

    assert signer.takes(forged), "its signature is good, and its key counts"
    signer.clock.advance(1)
    assert not signer.takes(forged)
    with pytest.raises(RefusalError, match="a key that does not count"):
        signer.tokens.verify(Kind.CONSUMER, forged)


def test_a_token_outlives_its_key_never(signer: _Signer) -> None:
    """The last token of a key is over, wrong clocks and all, before the key is."""
    token = signer.token()
    signer.keys.rotate(LIVES, signer.entropy)
    signer.clock.advance(LIVES.access + LEEWAY - 1)

    assert signer.takes(token)


def test_grants_have_a_time_of_their_own(signer: _Signer) -> None:
    """An old key counts for grants as long as they live, however long tokens do."""
    old = signer.keys.newest.secret
    new = signer.keys.rotate(LIVES, signer.entropy)[0].secret
    before = signer.keys.of_grants()
    signer.clock.advance(LIVES.grant + MARGIN)

    assert (before, signer.keys.of_grants()) == ([new, old], [new])


def test_keys_that_are_over_are_forgotten(signer: _Signer) -> None:
    """The file holds no key that does not count."""
    for _ in range(3):
        signer.keys.rotate(LIVES, signer.entropy)
        signer.clock.advance(LIVES.access + MARGIN)

    assert len(read_keys(signer.folder)) == 2


def test_keys_are_not_without_number(signer: _Signer) -> None:
    """Who has a new key made again and again is told when there is room for another one."""
    for _ in range(MOST_KEYS - 1):
        signer.keys.rotate(LIVES, signer.entropy)
        signer.clock.advance(1)
    with pytest.raises(RefusalError, match=r"may be made in \d+ s"):
        signer.keys.rotate(LIVES, signer.entropy)


def test_the_file_is_private(signer: _Signer) -> None:
    """[K12] Only the user reads the keys, and a hub refuses those that others could have read."""
    path = signer.folder.path / SIGNING_KEYS

    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        signer.restart()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"keys": []}',
        '{"keys": 1}',
        '{"keys": [{"id": "a"}]}',
        json.dumps({"keys": [{"id": "a", "secret": "00", "made": 1, "tokensUntil": None, "grantsUntil": None}]}),
        json.dumps({"keys": [{"id": "a", "secret": "00" * 32, "made": 1, "tokensUntil": 1, "grantsUntil": 1}]}),
    ],
)
def test_a_spoilt_file_is_told(signer: _Signer, content: str) -> None:
    """Keys are never made anew behind somebody's back: the hub says what to do."""
    (signer.folder.path / SIGNING_KEYS).write_text(content)
    with pytest.raises(ConfigurationError, match="delete it and start again"):
        signer.restart()
