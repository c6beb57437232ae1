"""A start that takes longer than whoever asked for it waits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from support import wait_until
from support_hub import running_hub
from support_proxy import FaultProxy, cdm_through

from blocks_worker.cli.served import Served
from blocks_worker.cli.signals import Signals
from blocks_worker.concurrency import Entropy
from blocks_worker.config import state_dir, worker_config
from blocks_worker.runtime.options import AgentInstanceOptions

if TYPE_CHECKING:
    from pathlib import Path


def test_a_start_that_was_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """After a SIGTERM in the middle of it the process ends: what the start makes later is stopped at once. [D3]"""
    with running_hub(state_dir()) as hub, FaultProxy(hub.address.url) as proxy:
        own = set(threading.enumerate())
        proxy.delay(1.0)
        cdm = cdm_through(hub.ask("GET", "/api/v1/cdm"), tmp_path, hub=proxy)
        config = worker_config({"BLOCKS_STATE_DIR": str(state_dir()), "BLOCKS_API_KEY": hub.key})
        options = AgentInstanceOptions(agent_name="late", handler=lambda _task: "x", cdm_url=cdm, embedded_hub=False)
        served = Served(options, config, Signals(), Entropy())
        served.start()
        wait_until(lambda: proxy.exchanges, 10, "the first request of the start")
        served.abandon()
        wait_until(lambda: len(proxy.exchanges) > 1, 20, "the rest of the start")

        def made() -> list[str]:
            return [one.name for one in threading.enumerate() if one not in own and one.name != "fault-proxy"]

        wait_until(lambda: not made(), 20, "the end of its threads")
        assert served.instance is not None, "the start went on, and was stopped"
