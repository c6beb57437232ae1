"""What `blocks top` shows."""

from io import StringIO

import pytest
from rich.console import Console

from blocks_worker.cli.top import AgentLook, Look, drawn, lines, summary, within

AGENT = AgentLook(agent_name="echo", instances={"ready": 2}, slots=8, busy=3, recent={"completed": 5, "running": 1})


def test_an_agent_is_a_line() -> None:
    """Instances by state, slots in use of all, and its tasks of the last minute by state."""
    look = Look(
        agents=[AGENT], open={"pending": 0, "running": 1, "paused": 0}, sent=6, rate=0.1, complete=True, recent={}
    )

    assert list(lines(look)) == [
        "your tasks: 0 pending, 1 running, 0 paused; 6 of the last minute, 0.1 a second",
        "AGENT\tINSTANCES\tSLOTS\tPENDING\tRUNNING\tPAUSED\tASKING\tDONE/MIN\tFAILED/MIN\tCANCELED/MIN",
        "echo\t2 ready\t3/8\t0\t1\t0\t0\t5\t0\t0",
    ]


def test_what_was_not_counted_to_the_end_is_said() -> None:
    """More than the hub counts are many; a minute of which only the end was read is said to be that."""
    look = Look(agents=[], open={"pending": None}, sent=2048, rate=400.0, complete=False, recent={})

    assert summary(look) == "your tasks: many pending; the newest 2048 of the last minute, 400 a second"


def idle(name: str, **instances: int) -> AgentLook:
    """Return an agent that does nothing."""
    return AgentLook(agent_name=name, instances=instances, slots=0, busy=0, recent={})


def looked(agents: list[AgentLook]) -> Look:
    """Return a look at these agents."""
    return Look(agents=agents, open={"pending": 1}, sent=6, rate=0.1, complete=True, recent={})


def test_agents_that_do_something_come_first_and_the_rest_is_a_number() -> None:
    """Who has no instance and no task is only counted; who waits for tasks is shown where there is room."""
    many = [*(idle(f"a{n}") for n in range(40)), idle("waits", ready=1), AGENT]

    assert [agent.agent_name for agent in within(looked(many), 20)[0]] == ["echo", "waits"]
    assert within(looked(many), 20)[1] == "40 more agents, idle: 'blocks agents' lists all"
    assert [agent.agent_name for agent in within(looked(many), 2)[0]] == ["echo"]
    assert within(looked([AGENT] * 5), 3)[1] == "3 more agents, of them 0 idle: 'blocks agents' lists all"
    assert within(looked([AGENT]), 1) == ([AGENT], "")


@pytest.mark.parametrize("width", [80, 40, 200])
def test_a_small_screen_begins_with_what_is_yours(width: int) -> None:
    """Whatever there is of agents, it all fits, the summary stands above it, and no agent's name is cut."""
    agents = [
        AgentLook(agent_name=f"an_agent_{n}", instances={"ready": 2}, slots=8, busy=3, recent={}) for n in range(60)
    ]
    console = Console(width=width, height=24, file=StringIO())

    console.print(drawn(looked([*agents, *(idle(f"b{n}") for n in range(60))]), width, 24))
    shown = console.file.getvalue().splitlines()

    assert shown[0].startswith("your tasks: 1 pending")
    assert len(shown) <= 24
    assert "an_agent_18" in "\n".join(shown)
    assert shown[-1].startswith("101 more agents, of them 60 idle") or width == 40
