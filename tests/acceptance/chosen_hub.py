"""A hub in a process of its own with settings that no flag has: ``python chosen_hub.py '{"state_dir": …}'``."""

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

from blocks_worker.config import HubConfig
from blocks_worker.hub.hub import Hub
from blocks_worker.observability.logs import setup_logging
from blocks_worker.protocol.leases import Numbers


def main(text: str) -> None:
    """Run the hub until this process is killed."""
    setup_logging("info", "json")
    settings = json.loads(text)
    network = settings.pop("network", None)
    numbers = Numbers(**settings.pop("numbers", {}))
    # The reserve of a real hub is larger than all else that a test leaves behind.
    hub = Hub(HubConfig(state_dir=Path(settings.pop("state_dir")), numbers=numbers, reserve_bytes=1 << 20, **settings))
    where = hub.start()
    if network:
        assert hub._served is not None
        of_network = hub._served[1].network
        of_network.settings = replace(of_network.settings, **network)
    sys.stdout.write(f"[hub] listening on {where.url}, network on {where.origin}\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
