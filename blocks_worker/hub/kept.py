"""What a hub keeps beside its ledger, so that a restart meets its old callers: ports, keysets and its secret."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from blocks_worker.hub.api.cdm import KEYSET_OF_MODE
from blocks_worker.hub.network.settings import Keyset
from blocks_worker.state import KEPT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blocks_worker.concurrency import Entropy
    from blocks_worker.state import StateFolder

_logger = logging.getLogger(__name__)

SECRET = "hub-secret"  # noqa: S105 - the name of the file, not what is in it


class Kept:
    """Read and write the hub's file in the state folder; what is missing or spoilt is made anew."""

    def __init__(self, folder: StateFolder, entropy: Entropy) -> None:
        self._folder = folder
        self._content = folder.load_json(KEPT)
        self.secret = folder.secret(SECRET)
        self.keysets: Mapping[str, Keyset] = self._read_keysets() or self._new_keysets(entropy)

    def port(self, of: str) -> int:
        """Return the port that was kept for ``hub`` or ``network``; 0 when there is none."""
        return self._folder.kept_port(of)

    def keep_port(self, of: str, port: int) -> None:
        """Keep a port for the next start."""
        if self.port(of) != port:
            self._save({f"{of}_port": port})

    def _read_keysets(self) -> dict[str, Keyset] | None:
        try:
            kept = self._content["keysets"]
            keysets = {name: Keyset(str(kept[name][0]), str(kept[name][1])) for name in KEYSET_OF_MODE.values()}
        except (KeyError, TypeError, IndexError):
            return None
        return keysets

    def _new_keysets(self, entropy: Entropy) -> dict[str, Keyset]:
        keysets = {
            name: Keyset(f"pub-c-{entropy.name()}", f"sub-c-{entropy.name()}") for name in KEYSET_OF_MODE.values()
        }
        _logger.info("keysets_made")
        self._save({"keysets": {name: [keys.publish_key, keys.subscribe_key] for name, keys in keysets.items()}})
        return keysets

    def _save(self, changed: dict[str, Any]) -> None:
        self._content |= changed
        self._folder.save_json(KEPT, self._content)
