import json

import pytest
from simulation.driver import Simulation

from blocks_worker.protocol.lifecycle import SHOWN, SHOWN_TERMINAL, State

SEEDS = range(100)


def check(world: Simulation) -> None:
    """Hold one history against the invariants."""
    driver = world.database.writer.connection.driver_connection
    assert driver is not None
    rows = driver.execute("SELECT id, state, epoch, last_n FROM task").fetchall()
    events: dict[str, list[dict[str, object]]] = {}
    for task, body in driver.execute("SELECT task, body FROM event ORDER BY seq"):
        events.setdefault(task, []).append(json.loads(body))
    assert len(rows) == len(world.sessions), "I8: one task for each key"
    for task, state, epoch, last_n in rows:
        ledger, shown = events[task], world.shown[task]
        terminals = [event for event in ledger if event["type"] == "terminal"]
        assert SHOWN[State(state)] in SHOWN_TERMINAL, f"I1: {task} stands at {state}"
        assert len(terminals) == 1, f"I2: {task} ended {len(terminals)} times"
        assert [event.type for event in shown].count("terminal") == 1, f"I3: {task} showed {shown}"
        assert shown[-1].type == "terminal", f"I3: {task} spoke after its end"
        assert shown[-1].state == SHOWN[State(state)] == terminals[0]["state"], f"I3: {task} differs from the record"
        kept = [event["n"] for event in ledger if event["epoch"] == epoch and "n" in event]
        assert kept == list(range(1, last_n + 1)), f"I4: {task} kept {kept} of {last_n}"
        if not shown[-1].gap:
            seen = [event.n for event in shown if event.epoch == epoch and event.n is not None]
            assert seen == kept, f"I4: {task} showed {seen} of {kept}"
        epochs = [event.epoch for event in shown]
        assert epochs == sorted(epochs), f"I5: {task} showed epochs {epochs}"
    assert all(len(holders) == 1 for holders in world.leases.values()), "I6: two leases in one epoch"


@pytest.mark.parametrize("seed", SEEDS)
def test_no_history_breaks_an_invariant(seed: int) -> None:
    """Kills, restarts, lost calls, lost, doubled and late messages: I1 to I6 hold in every history."""
    world = Simulation(seed)

    world.run()

    check(world)
    # The positive control: the faults did happen.
    assert world.faults["killed"] == 3
    assert world.faults["bus dropped"] + world.faults["request lost"] + world.faults["answer lost"] > 0
    world.database.close()
