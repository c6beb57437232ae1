import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blocks_worker.cli.choosing import chosen
from blocks_worker.cli.flags import Flags
from blocks_worker.cli.run import run
from blocks_worker.config import worker_config


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, and leave the module path as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def check(*arguments: str) -> Result:
    """Run the checks only."""
    return CliRunner().invoke(run, [*arguments, "--check"])


def card(folder: Path, **runtime: object) -> None:
    """Write a card of the agent echo."""
    content = {"identity": {"agentName": "echo"}, "runtime": runtime}
    (folder / "agent-card.json").write_text(json.dumps(content), encoding="utf-8")


def test_nothing_given_is_echo() -> None:
    """[R-3] Without card and flags the handler is echo."""
    result = check()

    assert (result.exit_code, result.stdout) == (0, "[agent] echo: checked, 1 slot\n")


def test_a_card_in_the_folder_is_card_mode(folder: Path) -> None:
    """[2.13] An agent-card.json in the working folder says what is served, and how."""
    (folder / "mine.py").write_text("def answer(task): ...\n", encoding="utf-8")
    card(folder, handler="mine.py", handlerExport="answer", concurrency=7)

    assert "[agent] echo: checked, 7 slots" in check().stdout


@pytest.mark.parametrize(("name", "slots"), [("echo", 7), ("adder", 1)])
def test_a_card_counts_for_its_own_agent_only(folder: Path, name: str, slots: int) -> None:
    """[2.13] With --handler the card in the folder applies when it is that agent's."""
    card(folder, concurrency=7)

    assert f"[agent] {name}: checked, {slots} slot" in check("--handler", name).stdout


def test_a_named_card_of_another_agent_is_refused(folder: Path) -> None:
    """[2.13] A card that was named and is another agent's is one line with the cure."""
    card(folder)
    result = check("--handler", "adder", "--card", "agent-card.json")

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "card of 'echo'" in result.stderr


def test_the_flag_wins_over_the_card(folder: Path) -> None:
    """[2.13] --concurrency overrides; 0 is 64."""
    card(folder, concurrency=7)
    slots = [check("--handler", "echo", "--concurrency", asked).stdout.split()[-2] for asked in ("3", "0")]

    assert slots == ["3", "64"]


def test_dotenv_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[2.13] .env of the working folder counts where the environment says nothing."""
    monkeypatch.setenv("BLOCKS_REGISTRY", "placeholder")  # so that its old state comes back after the test
    monkeypatch.delenv("BLOCKS_REGISTRY")
    (folder / ".env").write_text("BLOCKS_REGISTRY=nowhere.json\n", encoding="utf-8")

    assert "nowhere.json" in check("--handler", "echo").stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--handler", "nope"], "available: echo, adder"),
        (["--handler", "echoo"], "no handler named 'echoo'; did you mean 'echo'?"),
        (["--handler", "no_module_here:f"], "no_module_here"),
        (["--handler", "json:lods"], "did you mean 'loads'"),
        (["--handler", "json:__name__"], "not callable"),
        (["--registry", "none.json"], "none.json is not there"),
        (["--card", "none.json"], "none.json is not there"),
        (["--instance-id", "a b"], "'a b'"),
    ],
)
def test_trouble_is_one_line_and_exit_1(arguments: list[str], told: str) -> None:
    """[2.13] Each error is one line on standard error that names the cause."""
    result = check(*arguments)

    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert told in result.stderr


def test_a_file_of_the_folder_is_offered_as_its_entry_point(folder: Path) -> None:
    """Who names a file's handler by the file's name is told how to write it."""
    (folder / "greet.py").write_text("def other(task): ...\ndef handler(task): ...\n", encoding="utf-8")
    (folder / "wave.py").write_text("async def hello(task): ...\n", encoding="utf-8")
    said = [check("--handler", name).stderr for name in ("greet", "greet.py", "wave")]

    assert ["did you mean greet:handler?" in said[0], "greet:handler?" in said[1]] == [True, True]
    assert "did you mean wave:hello?" in said[2]


def test_an_import_that_fails_inside_a_module_is_told_by_its_line(folder: Path) -> None:
    """The line of the user's file that failed is named; folders are named only where nothing was found."""
    (folder / "mine.py").write_text("\nimport nothing_of_this_name\ndef handler(task): ...\n", encoding="utf-8")
    inside, missing = (check("--handler", f"{name}:handler").stderr for name in ("mine", "not_there"))

    assert f"{folder / 'mine.py'} line 2" in inside
    assert "looked in" not in inside
    assert missing.count(str(folder)) == 1


def test_a_handler_for_another_runtime_is_said_to_be_one(folder: Path) -> None:
    """A registry may list what this worker cannot serve."""
    entries = [{"name": "x", "runtime": "node"}, {"name": "y", "entrypoint": "json:dumps"}]
    (folder / "registry.json").write_text(json.dumps({"handlers": entries}), encoding="utf-8")

    assert "has it for runtime 'node', and this worker serves 'python'" in check("--handler", "x").stderr


def test_a_card_of_another_agent_is_said_to_be_left_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With --handler the folder's card of another agent is not used, which the log says."""
    card(folder)
    with caplog.at_level("INFO"):
        check("--handler", "adder")

    (told,) = [vars(record)["reason"] for record in caplog.records if record.getMessage() == "card_left_aside"]
    assert told == "agent-card.json is the card of the agent 'echo', this one is 'adder'"


def test_a_missing_variable_is_told(folder: Path) -> None:
    """[2.13] requiresEnv that is not set is exit 1 with the name."""
    entry = {"name": "x", "entrypoint": "json:dumps", "requiresEnv": ["MODEL_KEY"]}
    (folder / "registry.json").write_text(json.dumps({"handlers": [entry]}), encoding="utf-8")
    result = check("--handler", "x")

    assert (result.exit_code, "MODEL_KEY" in result.stderr) == (1, True)


def test_a_missing_key_is_told_before_any_network_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """[2.2 check 7, A-5] A hub elsewhere needs BLOCKS_API_KEY, and the line says so."""
    monkeypatch.setenv("BLOCKS_CDM_URL", "https://hub.invalid/cdm")
    result = check()

    assert (result.exit_code, "BLOCKS_API_KEY" in result.stderr) == (1, True)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """[2.14] A bad value is an error that names its variable."""
    monkeypatch.setenv("AGENT_SHUTDOWN_GRACE_SEC", "soon")
    result = check()

    assert (result.exit_code, "AGENT_SHUTDOWN_GRACE_SEC='soon'" in result.stderr) == (1, True)


@pytest.mark.parametrize("arguments", [["--concurrency", "-1"], ["--no-such-flag"], ["--log-level", "loud"]])
def test_a_wrong_command_line_is_exit_2(arguments: list[str]) -> None:
    """[2.13] Usage is exit 2."""
    assert check(*arguments).exit_code == 2


def test_findings_of_a_card_are_printed(folder: Path) -> None:
    """[2.13] --check prints what the card lacks."""
    card(folder, handler="json:dumps")

    assert "card: identity.displayName: is missing" in check().output


def test_each_error_of_a_card_is_a_line(folder: Path) -> None:
    """[2.13] --check tells all that is wrong with a card at once, and fails."""
    card(folder, handler="json:dumps", concurrency="2", delivery="maybe")
    result = check()

    assert result.exit_code == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("blocks-run: ")] == [
        "blocks-run: card: runtime.concurrency: must be integer, not string; change it",
        "blocks-run: card: runtime.delivery: must be one of at_least_once, at_most_once; change it",
    ]


def test_a_check_says_that_nothing_is_encrypted(folder: Path) -> None:
    """[R-63] A card that declares encryption is told that payloads are not encrypted."""
    content = {"identity": {"agentName": "echo"}, "security": {"encryption": True}}
    (folder / "agent-card.json").write_text(json.dumps(content), encoding="utf-8")

    assert "payloads are NOT encrypted" in check("--handler", "echo").stdout


def test_several_handlers_are_checked_together() -> None:
    """[R-61] Each --handler is an agent of the one process, with the flags that all share."""
    result = check("--handler", "echo", "--handler", "adder", "--concurrency", "2")

    assert (result.exit_code, result.stdout) == (0, "[agent] echo: checked, 2 slots\n[agent] adder: checked, 2 slots\n")


def test_the_finding_of_one_handler_names_it(folder: Path) -> None:
    """[R-61] Who checks several learns which of them is not as it should be."""
    card(folder, handler="json:dumps", delivery="maybe")
    result = check("--handler", "adder", "--handler", "nope", "--handler", "echo")

    assert result.exit_code == 1
    assert "blocks-run: handler 'nope': " in result.stderr
    assert "checked" not in result.stdout


@pytest.mark.parametrize("other", ["echo", "mine:echo"])
def test_one_name_for_two_handlers_is_refused(folder: Path, other: str) -> None:
    """[R-61] Two instances of an agent in one process are a mistake, and the line says what to do, of a start too."""
    (folder / "mine.py").write_text("def echo(task): ...\n", encoding="utf-8")
    arguments = ["--handler", "echo", "--handler", other]

    for result in (check(*arguments), CliRunner().invoke(run, arguments)):
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert f"--handler echo and --handler {other} are both the agent 'echo'; leave one out" in result.stderr


@pytest.mark.parametrize("option", ["--instance-id", "--card"])
def test_what_names_one_agent_goes_with_one_handler_only(option: str) -> None:
    """[R-61] An instance's name or a card cannot be that of several agents: wrong usage, with what to do instead."""
    result = check("--handler", "echo", "--handler", "adder", option, "x")

    assert result.exit_code == 2
    assert option in result.stderr


@pytest.mark.parametrize(("identity", "said"), [({"description": "of the card"}, "of the card"), ({}, "of the code")])
def test_the_card_describes_the_agent_before_its_code_does(folder: Path, identity: dict[str, str], said: str) -> None:
    """The first line of the handler's docstring counts where the card says nothing."""
    (folder / "mine4.py").write_text('def answer(task):\n    """of the code"""\n', encoding="utf-8")
    content = {
        "identity": {"agentName": "echo", **identity},
        "runtime": {"handler": "mine4.py", "handlerExport": "answer"},
    }
    (folder / "agent-card.json").write_text(json.dumps(content), encoding="utf-8")

    assert chosen(Flags(), worker_config({"BLOCKS_STATE_DIR": str(folder)})).description == said


@pytest.mark.parametrize(
    ("code", "frames"), [("def answer(task)\n    pass\n", 0), ("def f():\n    1 / 0\n\n\nf()\n", 2)]
)
def test_a_module_that_does_not_load_shows_its_own_frames_only(folder: Path, code: str, frames: int) -> None:
    """The framework's frames say nothing to whoever writes a handler; a syntax error is its one line, at debug too."""
    name = f"broken{frames}"
    (folder / f"{name}.py").write_text(code, encoding="utf-8")

    done = CliRunner().invoke(run, ["--handler", f"{name}:answer", "--log-level", "debug", "--log-format", "text"])

    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith(f"blocks-run: handler 'answer': cannot load '{name}' (")
    assert done.output.count('  File "') == frames
    assert "/blocks_worker/" not in done.output
