"""What is said about credentials besides connect: sessions for tokens that came another way, and API keys."""

from __future__ import annotations

from typing import Annotated

import msgspec

from blocks_worker.protocol.codec import Wire

#: Longest name of an API key, in characters.
MAX_KEY_NAME = 64


class SessionRequest(Wire):
    """Trade an access token for a session; with the access token of an earlier one its channel is kept."""

    access_token: str | None = None


class SessionAnswer(Wire, omit_defaults=False):
    """A session: its access token, its channel and the grant for that. Lives are in seconds."""

    access_token: str
    expires_in: float
    user_id: str
    session_channel: str
    pam_token: str
    pam_expires_in: float


class CreateKey(Wire):
    """Make an API key; `owner` is the caller when it is not said."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_KEY_NAME)]
    owner: str | None = None


class KeyRow(Wire, omit_defaults=False):
    """An API key without its secret. Times are unix milliseconds; `last_used` is when it was last traded for tokens."""

    id: str
    name: str
    owner: str
    created: int
    last_used: int | None = None
    revoked: bool = False


class CreatedKey(KeyRow, kw_only=True):
    """An API key that was just made; `key` is told this once."""

    key: str


class SigningKeyRow(Wire, omit_defaults=False):
    """A key with which a hub signs tokens, without its secret.

    Times are unix milliseconds; `until` is when the last that it signed will be over, None while it signs.
    """

    id: str
    made: int
    until: int | None


class SigningKeyList(Wire, omit_defaults=False):
    """The signing keys that count, the one that signs first."""

    keys: list[SigningKeyRow]


class KeyList(Wire, omit_defaults=False):
    """API keys, oldest first."""

    keys: list[KeyRow]
