"""Three agents in one process: one asks the other two at the same time and merges their answers."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from blocks_worker import start_agent_instance


def upper(task):
    return task.text().upper()


def backwards(task):
    return task.text()[::-1]


def fan_out(task, ctx):
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda agent: ctx.call(agent, task.text(), timeout=20).text, ("upper", "backwards"))
        return " | ".join(answers)


with ExitStack() as stack:
    agents = [
        stack.enter_context(start_agent_instance({"agent_name": handler.__name__, "handler": handler}))
        for handler in (upper, backwards, fan_out)
    ]
    for agent in agents:
        agent.wait_ready(30)
    print("ready; Ctrl-C ends", flush=True)
    try:
        agents[0].wait()
    except KeyboardInterrupt:
        print("draining")
