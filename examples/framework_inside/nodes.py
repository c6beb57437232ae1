"""An agent framework of one page: nodes are coroutines over one state, and each names the node that comes next."""

#: Steps of one run: a graph that goes round in circles ends too.
MOST = 50


class Graph:
    """Knows nothing of tasks: what a framework brings along is its own loop of steps."""

    def __init__(self):
        self.nodes = {}

    def node(self, function):
        """Add a coroutine function; the first one is where a run begins."""
        self.nodes[function.__name__] = function
        return function

    async def run(self, state, on_step):
        """Go from node to node until one names no other; each step is told before it is taken."""
        name = next(iter(self.nodes))
        for _ in range(MOST):
            on_step(name, state)
            name = await self.nodes[name](state)
            if name is None:
                return state
        raise RuntimeError(f"no end after {MOST} steps, the last one {name}")
