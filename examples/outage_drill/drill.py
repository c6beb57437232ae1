"""Cut a worker off from its hub and its network, send tasks meanwhile, and let it come back."""

import json
import os
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

from line import Line

from blocks_worker import TaskClient, fetch_cdm_config

LOG = Path("worker.log")


def seen(word, timeout=60):
    """Wait until the worker's log says a word."""
    end = time.monotonic() + timeout
    while word not in LOG.read_text():
        if time.monotonic() > end:
            raise SystemExit(f"{word!r} is not in {LOG}")
        time.sleep(0.1)


def document(cdm, hub, network):
    """Write where hub and network are for the worker: at the ends of two lines."""
    keys = {
        name: {"publishKey": each["publish_key"], "subscribeKey": each["subscribe_key"]}
        for name, each in (("playground", asdict(cdm.playground)), ("network", asdict(cdm.network)))
    }
    place = Path("cdm.json")
    place.write_text(json.dumps({**keys, "hubUrl": hub.address, "origin": network.address}))
    return str(place)


cdm = fetch_cdm_config()
hub, network = Line(cdm.hub_url), Line(cdm.origin)
surroundings = {**os.environ, "BLOCKS_CDM_URL": document(cdm, hub, network)}
with LOG.open("w") as log, TaskClient.create("free") as client:
    worker = subprocess.Popen(
        ["blocks-run", "--handler", "echo", "--no-local"], env=surroundings, stdout=log, stderr=subprocess.STDOUT
    )
    seen("ready: registered and listening")
    print("before:", client.run("echo", "one").text)

    hub.cut()
    network.cut()
    seen("transport_retry")
    sessions = [client.send_message("echo", text) for text in ("two", "three", "four")]
    print("during:", *(session.state for session in sessions))

    hub.mend()
    network.mend()
    mended = time.monotonic()
    for session in sessions:
        session.wait_for_terminal(timeout=60)
        print("after:", session.text())
    seen("transport_recovered")
    print("within 20 s:", time.monotonic() - mended < 20)
    worker.terminate()
    print("worker ended with", worker.wait(30))
