"""An agent that looks questions up in the pages of Python's own library: plan, look, judge, and once more or write."""

import asyncio
import importlib
import inspect
import re

from nodes import Graph

SHELVES = (
    "math", "statistics", "textwrap", "shutil", "string", "heapq", "bisect", "fnmatch", "calendar", "glob",
    "json", "csv", "base64", "hashlib", "random", "operator", "colorsys", "difflib", "html", "linecache",
    "tempfile", "timeit", "uuid", "zlib", "gzip", "struct", "copy", "functools", "shlex", "stat",
)  # fmt: skip
#: Words that say nothing about what is looked for.
SMALL = {"a", "an", "do", "for", "from", "function", "give", "how", "i", "in", "is", "of", "the", "to", "what", "which"}
#: Seconds that a look at a shelf takes at least: a service would ask for it.
PAUSE = 0.2

librarian = Graph()


@librarian.node
async def plan(state):
    """Take the words that count, and the shelves that the question names, else all."""
    words = words_of(state["question"])
    named = [shelf for shelf in SHELVES if stem(shelf) in words]
    state["words"] = words - SMALL - {stem(shelf) for shelf in named}
    state["shelves"] = named or SHELVES
    state["best"] = (0, "")
    return "look"


@librarian.node
async def look(state):
    """Call the tool for the next two shelves at once."""
    asked, state["shelves"] = state["shelves"][:2], state["shelves"][2:]
    found = await asyncio.gather(*(pages_of(shelf) for shelf in asked))
    rated = [(len(state["words"] & words_of(page)), page) for pages in found for page in pages]
    state["best"] = max([state["best"], *rated], key=lambda entry: entry[0])
    return "judge"


@librarian.node
async def judge(state):
    """Stop where a page has every word, else go on while there are shelves."""
    has_all = state["best"][0] == len(state["words"])
    return "write" if has_all or not state["shelves"] else "look"


@librarian.node
async def write(state):
    """Answer with the best page, or say that none is good."""
    score, page = state["best"]
    state["answer"] = page if score > len(state["words"]) / 2 else "nothing was found about that"


async def pages_of(shelf):
    """Return what each function of a module says of itself: the one tool of this agent."""
    await asyncio.sleep(PAUSE)
    module = await asyncio.to_thread(importlib.import_module, shelf)
    routines = [(name, inspect.getdoc(thing)) for name, thing in vars(module).items() if inspect.isroutine(thing)]
    return [f"{shelf}.{name}: {' '.join(page.split())}" for name, page in routines if page and name[0] != "_"]


def words_of(text):
    return {stem(word) for word in re.findall(r"\w+", text.lower())}


def stem(word):
    return word.removesuffix("s")
