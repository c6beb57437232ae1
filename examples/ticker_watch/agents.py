"""Two agents in one process: one tells prices by a pipe, the other opens that pipe and answers with a mean."""

import random
from contextlib import ExitStack
from itertools import islice
from statistics import mean

from blocks_worker import start_agent_instance


def ticker(task, ctx):
    with ctx.create_stream(format="events") as stream:
        while not ctx.wait(0.05):
            stream.write(round(100 + random.uniform(-5, 5), 2))


def ticker_watch(task, ctx):
    wanted = int(task.text(default="10"))
    with ctx.task_client.send_message("ticker", "ACME", task_kind="pipe", duration=1) as pipe:
        prices = []
        for price in islice(pipe.wait_for_stream(timeout=20).open().events(), wanted):
            ctx.check_cancelled()
            ctx.report_progress(len(prices) / wanted, f"price {price}")
            prices.append(price)
        pipe.cancel("enough prices")
    return {"prices": len(prices), "mean": round(mean(prices), 2)}


with ExitStack() as stack:
    agents = [
        stack.enter_context(start_agent_instance({"agent_name": handler.__name__, "handler": handler}))
        for handler in (ticker, ticker_watch)
    ]
    for agent in agents:
        agent.wait_ready(30)
    print("ready; Ctrl-C ends", flush=True)
    try:
        agents[0].wait()
    except KeyboardInterrupt:
        print("draining")
