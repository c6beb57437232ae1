"""The document that tells a caller where the hub and its network are, and with which keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.hub.api.calls import Answer, Door
from blocks_worker.protocol import codec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.network.settings import Keyset, NetworkSettings

#: Which keyset of the document serves which billing mode.
KEYSET_OF_MODE = {"free": "playground", "paid": "network"}
CLIENT_ID = "blocks-local"


@dataclass(frozen=True)
class Surroundings:
    """Say where a hub is reached: addresses of the hub and of its network, and the network's keys by name."""

    url: str
    origin: str
    keysets: Mapping[str, Keyset]

    def keyset(self, billing_mode: str) -> Keyset:
        """Return the keys that serve a billing mode."""
        return self.keysets[KEYSET_OF_MODE[billing_mode]]


class CdmDoors:
    """Serve the document, which never changes while the hub runs."""

    def __init__(self, surroundings: Surroundings, settings: NetworkSettings, transport: str) -> None:
        self._document = codec.encode(_document(surroundings, settings, transport))

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [Door("GET", "/api/v1/cdm", self.document, gives=dict)]

    async def document(self, _call: Call) -> Answer:
        """Show the document.

        Who: anybody
        Answers: 200
        """
        return Answer(200, self._document)


def _document(surroundings: Surroundings, settings: NetworkSettings, transport: str) -> dict[str, object]:
    keysets = {
        name: {"publishKey": keyset.publish_key, "subscribeKey": keyset.subscribe_key}
        for name, keyset in surroundings.keysets.items()
    }
    return {
        **keysets,
        "api": {"baseUrl": surroundings.url, "clientId": CLIENT_ID},
        "transport": transport,
        "origin": surroundings.origin,
        "hubUrl": surroundings.url,
        "pubnub": {
            "hold": settings.hold,
            "retentionLimit": settings.retention_limit,
            "retentionAge": settings.retention_age,
        },
    }
