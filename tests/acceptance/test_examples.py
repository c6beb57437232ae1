"""Each example as somebody runs it who copied its folder: the commands of its README, word for word."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from acceptance.conftest import BIN, ROOT, Daemon

if TYPE_CHECKING:
    from pathlib import Path

    from acceptance.conftest import World

EXAMPLES = ROOT / "examples"
NUMBER = r"\d+(\.\d+)?"
#: What the second terminal shows, line by line; a line that is not named here may stand between.
SHOWN: dict[str, list[str]] = {
    "echo": ["You said: Good morning"],
    "adder": [r'\{"sum": 42\}'],
    "submit_and_wait": [
        "in one line: Echoed request: Hello",
        "artifact: text/plain 27",
        "terminal: completed",
        "step by step: Echoed request: Hello again",
        "saved: artifacts/artifact-0",
    ],
    "send_file": ["artifacts/words.csv the,6000", r'artifacts/summary.json \{"words": 20000\}'],
    "attach_later": [
        "sent [0-9a-f-]+",
        r"found: (pending|running|completed) with \d+ events so far",
        "result: counted to 10",
    ],
    "echo_stream": ["heard: one", "heard: word", "heard: after", "heard: another", "in all: one word after another"],
    "read_stream": [*(rf"read: line {number} of the year, by \w+" for number in range(1, 6)), "state: completed"],
    "picture_maker": [],
    "lifecycle": [
        "same key, same task: True True",
        "event: paused",
        "state: paused",
        "event: resumed",
        "still ran: True",
        "terminal: canceled seen enough",
        r"kept: stopped after \d+",
        "cancel once more: False",
        "sent again, as another task: True",
        "terminal: that was all",
    ],
    "command_line": [
        r"whole: \['1', '2', '3'\]",
        *["line: again"] * 3,
        "terminal: canceled enough lines",
    ],
    "fan_out": [r"STEP ON NO PETS \| step on no pets"],
    "ticker": [*[f"price: ACME {NUMBER}"] * 5, "terminal: canceled", "said: the consumer has enough"],
    "ticker_watch": [rf'\{{"prices": 20, "mean": {NUMBER}\}}'],
    "three_streams": [
        r"news: \{'task': 'first', 'number': 1\}",
        "log: log of first",
        r"steps: \[1, 2, 3\]",
        r"streams: \['log', 'news', 'steps'\]",
        "terminal: canceled",
    ],
    "duplex_chat": [
        r"agent: Hello Ada, what is it\?",
        "me: My bicycle",
        r"agent: My bicycle\? Tell me more.",
        "me: A flat tyre",
        r"agent: A flat tyre\? Tell me more.",
        "me: bye",
        "agent: Goodbye.",
        "minutes: 2 things were said",
        "terminal: canceled",
    ],
    "outage_drill": [
        "before: Echoed request: one",
        "during: pending pending pending",
        *[f"after: Echoed request: {text}" for text in ("two", "three", "four")],
        "within 20 s: True",
        "worker ended with 0",
    ],
    "photo_doctor": [
        r"status: attempt 2: the model looks at night\.png",
        "# A PNG of 96 x 64",
        "brightness 26 of 255, contrast 3",
        r"- It is too dark: raise the exposure\.",
        r"status: attempt 1: the model looks at beach\.png",
        "brightness 226 of 255, contrast 3",
        r"- It is too bright: lower the exposure\.",
        "refused: send a photo that is one of image/png, .* not image/svg.xml",
    ],
    "media_summary": [
        r"status: attempt 2: the model listens to tones\.wav",
        "saved summaries/summary.md:",
        "# tones.wav, 0:04.5",
        "- 0:00.0 to 0:01.5: sound, -7 dB at its loudest",
        "- 0:01.5 to 0:03.5: silence",
        "- 0:03.5 to 0:04.5: sound, -27 dB at its loudest",
        "refused: send a recording that is one of audio/wav, .* not audio/midi",
        "refused: the model server answered 400: .*this stand-in reads WAV only.*",
    ],
    "framework_inside": [
        r"answer: math\.floor: .*",
        "steps: plan look judge write",
        r"answer: heapq\.nsmallest: .*",
        "steps: plan look judge look judge look judge write",
        r"status: step \d+: plan, 0 shelves to go",
        "terminal: canceled",
        "kept: stopped in look",
    ],
    "web_bridge": [
        "page: text/html.*",
        "state: queued, waits for room",
        "silence, but the line is alive",
        "state: running",
        "progress: .*",
        "the line is cut, the task goes on",
        "artifact: 12 bytes",
        "state: completed",
        "terminal: completed",
    ],
    "three_logins": [f"{way}: local Echoed request: Hello" for way in ("key", "endpoint", "function")],
}

#: What an example cannot use, and what whoever sent it reads.
REFUSED: dict[str, list[tuple[str, str]]] = {
    "echo": [("--file README.md", "the input has no part with text")],
    "adder": [("nonsense", "is not JSON"), ("'{\"a\": 1}'", "send two numbers")],
    "command_line": [
        ("'rm x'", "send a command that begins with one of ping, python, seq, sh"),
        ("'sh -c \"exit 3\"'", "sh ended with 3"),
    ],
    "photo_doctor": [
        ("--file README.md", "the card takes image/* (contentType)"),
        ("--file logo.svg", "send a photo that is one of image/png, image/jpeg, image/webp, not image/svg+xml"),
        ("--file torn.png", "the model server answered 400: "),
    ],
}


def commands(example: str) -> tuple[str, str]:
    """Return what an example's README has one type into the first terminal, and into the second."""
    found = re.search(r"```sh\n(.*)\n(.*)\n```", (EXAMPLES / example / "README.md").read_text())
    assert found is not None
    return found[1], found[2]


def environment(world: World) -> dict[str, str]:
    """Return the environment of both terminals: as after the activation of an environment with the package."""
    ours = {"PYTHONPATH", "RUNS", "GATE", "BLOCKS_HUB_URL"}
    kept = {name: value for name, value in world.environment.items() if name not in ours}
    # What serves pages is told where: the hub of the folder finds a port by itself.
    path = f"{BIN}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "PORT": str(world.port), "PYTHONWARNINGS": "error", "LOG_LEVEL": "info"}


def first_terminal(world: World, folder: Path, command: str) -> Daemon:
    """Start what serves, and wait until it does."""
    log = world.folder / "first-terminal"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            cwd=folder, env=environment(world), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    daemon = Daemon(process, log)
    world.daemons.append(daemon)
    daemon.wait_for("listening" if command.startswith("blocks-hub") else "ready")
    return daemon


def in_order(lines: list[str], wanted: list[str]) -> None:
    """Find each wanted line behind the one before it."""
    rest = iter(lines)
    for pattern in wanted:
        assert any(re.fullmatch(pattern, line) for line in rest), f"{pattern!r} is missing in\n" + "\n".join(lines)


def refuses(world: World, folder: Path) -> None:
    """Send what cannot be used to the agent of an example."""
    (folder / "logo.svg").write_text("<svg/>")
    (folder / "torn.png").write_bytes(b"\x89PNG")
    for text, said in REFUSED.get(folder.name, []):
        done = subprocess.run(
            ["sh", "-c", f"blocks send {folder.name} {text}"],
            cwd=folder, env=environment(world), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

        assert done.returncode == 1
        assert said in done.stderr


def copied(world: World, example: str) -> Path:
    """Return a copy of an example's folder."""
    folder = world.folder / example
    shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("example", SHOWN)
def test_an_example_runs_with_the_two_commands_of_its_readme(world: World, example: str) -> None:
    """A copy of the folder, two terminals, no key and no network but this machine's: it shows what it is to show.

    Input that it cannot use fails its task with a sentence for whoever sent it.
    """
    folder = copied(world, example)
    serve, use = commands(example)
    first = first_terminal(world, folder, serve)

    done = subprocess.run(
        ["sh", "-c", use],
        cwd=folder, env=environment(world), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{first.text()}"
    in_order(done.stdout.splitlines(), SHOWN[example])
    assert "Traceback" not in first.text() + done.stderr
    refuses(world, folder)
    so_far = len(first.text())
    first.process.send_signal(signal.SIGINT)
    assert first.process.wait(60) == 0, first.text()
    assert "Traceback" not in first.text()[so_far:]
    if example == "picture_maker":
        assert size_of_png((folder / "pictures/picture.png").read_bytes()) == (96, 64)


def size_of_png(data: bytes) -> tuple[int, int]:
    """Return width and height of a picture."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_every_example_is_run() -> None:
    """Each folder is in the table of this test and in the README's, and neither has more."""
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    in_readme = set(re.findall(r"\]\(examples/(\w+)/?\)", (ROOT / "README.md").read_text()))

    assert folders == set(SHOWN) == in_readme
