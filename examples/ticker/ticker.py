"""A pipe: a price now and then, until it is cancelled or its time is over."""

import random


def handler(task, ctx):
    price = 100.0
    with ctx.create_stream() as stream:
        while not ctx.wait(0.1):
            price += random.uniform(-1, 1)
            stream.write({"symbol": task.text(default="ACME"), "price": round(price, 2)})
    return "time is over" if ctx.is_expired else "the consumer has enough"
