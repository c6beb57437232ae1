"""The hub's numbers, when there are more agents than may have lines of their own."""

from __future__ import annotations

from support import FakeClock, SeededEntropy
from support_worker import LedgerInProcess

from blocks_worker.hub.measures import Measures
from blocks_worker.hub.network.network import LocalNetwork
from blocks_worker.hub.network.settings import Keyset
from blocks_worker.hub.publications import Publisher
from blocks_worker.hub.readiness import Readiness
from blocks_worker.hub.shares import Shares
from blocks_worker.observability.families import HUB, MOST_NAMES, OTHERS, Sample
from blocks_worker.protocol.leases import ConnectRequest
from blocks_worker.quotas import Quotas


def measures(hub: LedgerInProcess) -> Measures:
    """Return what reads this hub."""
    clock = FakeClock()
    network = LocalNetwork([Keyset("pub", "sub")], secret=None, clock=clock, entropy=SeededEntropy())
    return Measures(
        store=hub.store,
        instances=hub.instances,
        sweeper=hub.sweeper,
        publisher=Publisher(publish=network.publish, keys={}, entropy=SeededEntropy()),
        network=network,
        crowds={"network": network.crowd},
        readiness=Readiness(hub.store, network, clock),
        shares=Shares(Quotas(), hub.steady),
        admits=lambda: True,
        clock=clock,
        steady=hub.steady,
    )


def test_agents_beyond_the_most_are_told_together() -> None:
    """Lines are bounded, and their sum is right all the same; who has a line keeps it."""
    with LedgerInProcess() as hub:
        reads = measures(hub)
        for place in range(MOST_NAMES + 5):
            name = f"agent{place}"
            hub.connect(ConnectRequest(agent_name=name, instance_id=name, incarnation=f"{name}-1", concurrency=0))
            hub.submit(agent=name)
        first = list(reads.samples())
        hub.connect(ConnectRequest(agent_name="a_newer", instance_id="n", incarnation="n-1"))
        hub.submit(agent="a_newer")
        second = list(reads.samples())

    depth = {labels[0]: value for _, labels, value in told(first, "queue_depth")}
    later = {labels[0]: value for _, labels, value in told(second, "queue_depth")}
    assert (len(depth), depth[OTHERS]) == (MOST_NAMES + 1, 5)
    assert (set(later), later[OTHERS]) == (set(depth), 6)
    assert len(told(second, "instance_ready")) == MOST_NAMES


def told(samples: list[Sample], name: str) -> list[Sample]:
    """Return the samples of one family."""
    return [one for one in samples if one.family == f"blocks_hub_{name}"]


def test_every_sample_is_of_a_family_with_its_labels() -> None:
    """What is told fits the table of the families, and each is said once for each set of labels."""
    families = {family.name: family for family in HUB}
    with LedgerInProcess() as hub:
        hub.connect(ConnectRequest(agent_name="echo", instance_id="one", incarnation="one-1"))
        hub.submit()
        samples = list(measures(hub).samples())

    assert [one for one in samples if len(families[one.family].labels) != len(one.labels)] == []
    assert len({(one.family, one.labels) for one in samples}) == len(samples)
