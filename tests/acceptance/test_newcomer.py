"""What a stranger types, word for word."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from acceptance.conftest import ROOT, Daemon, World
from support import wait_until

README = (ROOT / "README.md").read_text()


def clone_environment(world: World) -> dict[str, str]:
    """Return an environment with an empty home and nothing configured; the installed packages are reused."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(world.folder / "home"),
        "BLOCKS_VENV": str(Path(sys.executable).parents[1]),
        # The port 3001 may be anybody's here; the home's state folder tells where the hub is.
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }


def test_the_two_terminals_of_the_readme(world: World) -> None:
    """The first command serves echo; what it prints works in a second terminal, as does the consumer. [D-1, R-55]"""
    environment = clone_environment(world)
    log = world.folder / "first-terminal"
    started = time.monotonic()
    with log.open("wb") as file:
        command = next(line.split("#")[0].strip() for line in README.splitlines() if line.startswith("./scripts/run"))
        process = subprocess.Popen(shlex.split(command), cwd=ROOT, env=environment, stdout=file, stderr=file)
    first = Daemon(process, log)
    world.daemons.append(first)
    first.wait_for("[agent] ready", timeout=60)
    first.wait_for("send echo Hello")
    ready = time.monotonic() - started
    printed = re.search(r'second terminal: ([^"]*)', first.text())
    assert printed is not None
    assert printed[1] == "./scripts/blocks send echo Hello"

    second = subprocess.run(
        shlex.split(printed[1]),
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert second.returncode == 0, second.stderr
    assert "Echoed request: Hello" in second.stdout

    consumer = re.search(r"```python\n# consumer.py\n(.*?)```", README, re.DOTALL)
    assert consumer is not None
    script = subprocess.run(
        [sys.executable, "-c", consumer[1]],
        cwd=world.folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert script.returncode == 0, script.stderr
    assert "Echoed request: Hello" in script.stdout
    saved = re.search(r"saved: (.*)", script.stdout)
    assert saved is not None, script.stdout
    assert (world.folder / saved[1]).read_text() == "Echoed request: Hello"

    asked = time.monotonic()
    assert first.terminate() == 0
    took = time.monotonic() - asked
    assert took < max(8.0, ready), "an idle daemon ends in seconds, or where all is slow sooner than it began"


def test_a_handler_of_the_readme_is_served(world: World) -> None:
    """The handler that the README shows is served as it stands."""
    handler = re.search(r"```python\n# greet.py\n(.*?)```", README, re.DOTALL)
    assert handler is not None
    (world.folder / "greet.py").write_text(handler[1])
    world.worker("greet:handler")

    done = world.run("blocks", "send", "greet", "Ada")

    assert done.stdout.strip() == "Good morning, Ada!"


def of_readme(world: World, name: str) -> None:
    """Write a file of the README as it stands there."""
    code = re.search(rf"```python\n# {name}.py\n(.*?)```", README, re.DOTALL)
    assert code is not None
    (world.folder / f"{name}.py").write_text(code[1])


STREAMS = (ROOT / "docs" / "streams.md").read_text()


def test_the_streams_of_the_pages_are_served_as_they_stand(world: World) -> None:
    """Handler and consumer of the page of streams speak to each other, and so does the handler of the README. [A-12]"""
    of_readme(world, "spell")
    for name in ("ticker", "watch_prices"):
        code = re.search(rf"```python\n# {name}.py\n(.*?)```", STREAMS, re.DOTALL)
        assert code is not None
        (world.folder / f"{name}.py").write_text(code[1])
    world.worker("ticker:handler")
    world.worker("spell:handler")
    (world.folder / "letters.py").write_text(
        "from blocks_worker import TaskClient\n"
        "with TaskClient.create('free') as client, client.send_message('spell', 'abc', stream=True) as session:\n"
        "    print(*session.wait_for_stream(timeout=30).open().events())\n"
    )

    watched = world.run("python", "watch_prices.py")
    spelt = world.run("python", "letters.py")
    assert watched.stdout.splitlines() == [str({"price": 100 + n}) for n in range(10)] + ["the market has closed"]
    assert spelt.stdout == "a b c\n", spelt.stderr
    assert world.run("blocks", "send", "spell", "abc", "--stream").stdout == "a\nb\nc\n"


def test_the_readmes_handler_that_takes_long_is_cancelled_by_the_end_of_its_id(world: World) -> None:
    """The handler that the README shows hears `blocks cancel`, and what it returns is kept."""
    of_readme(world, "count")
    world.worker("count:handler")
    sender = world.start("blocks", "send", "count", "100")
    sender.wait_for("at 0")
    task_id = world.run("blocks", "tasks").stdout.splitlines()[1].split("\t")[0]

    done = world.run("blocks", "cancel", task_id[-8:], "--reason", "enough")

    assert done.returncode == 0, done.stderr
    assert sender.process.wait(60) == 1
    assert re.search(r"^stopped at \d+$", sender.text(), re.MULTILINE)
    assert sender.text().splitlines()[-1] == f"blocks: task {task_id} canceled: enough"


def test_the_readmes_handler_reads_a_file_and_gives_files_back(world: World) -> None:
    """A file that was sent is read, and paths, texts and entries with a name come back and are saved."""
    of_readme(world, "measure")
    (world.folder / "photo.png").write_bytes(b"1234")
    world.worker("measure:handler")

    done = world.run("blocks", "send", "measure", "--file", "photo.png", "--save", "got")

    assert done.stdout == "4 bytes\na text\n"
    assert sorted(path.name for path in (world.folder / "got").iterdir()) == ["artifact-1.txt", "dot.png", "size.txt"]


def test_two_workers_find_each_other_in_one_home(world: World) -> None:
    """Without any setting the second worker joins the hub of the first, and the port may be taken."""
    environment = {name: value for name, value in world.environment.items() if name != "BLOCKS_HUB_URL"}
    world.environment = environment
    world.worker("echo")
    world.worker("adder")

    wait_until(lambda: {"echo", "adder"} <= set(world.agents()), what="both agents")
    done = world.run("blocks", "send", "adder", '{"a": 1, "b": 2}')

    assert '"sum": 3' in done.stdout
