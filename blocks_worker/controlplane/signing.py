"""The hub's signing keys, as their owner changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.protocol.credentials import SigningKeyList, SigningKeyRow

if TYPE_CHECKING:
    from blocks_worker.controlplane.api import HubApi


def rotate_signing_key(hub: HubApi, api_key: str) -> list[SigningKeyRow]:
    """Have a new key sign; return those that count, the new one first. A repeat makes one more, which does no harm."""
    return hub.with_key("auth/signing-keys", api_key, {}, SigningKeyList).keys
