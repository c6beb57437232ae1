"""What `blocks top` shows."""

from blocks_worker.cli.top import AgentLook, Look, lines, summary

AGENT = AgentLook(agent_name="echo", instances={"ready": 2}, slots=8, busy=3, recent={"completed": 5, "running": 1})


def test_an_agent_is_a_line() -> None:
    """Instances by state, slots in use of all, and its tasks of the last minute by state."""
    look = Look(
        agents=[AGENT], open={"pending": 0, "running": 1, "paused": 0}, sent=6, rate=0.1, complete=True, recent={}
    )

    assert list(lines(look)) == [
        "AGENT\tINSTANCES\tSLOTS\tPENDING\tRUNNING\tPAUSED\tCOMPLETED\tFAILED\tCANCELED",
        "echo\t2 ready\t3/8\t0\t1\t0\t5\t0\t0",
        "your tasks: 0 pending, 1 running, 0 paused; 6 of the last minute, 0.1 a second",
    ]


def test_what_was_not_counted_to_the_end_is_said() -> None:
    """More than the hub counts are many; a minute of which only the end was read is said to be that."""
    look = Look(agents=[], open={"pending": None}, sent=2048, rate=400.0, complete=False, recent={})

    assert summary(look) == "your tasks: many pending; the newest 2048 of the last minute, 400 a second"
