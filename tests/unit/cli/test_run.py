import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blocks_worker.cli.run import run


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

    assert (result.exit_code, result.stdout) == (0, "[agent] echo: checked, 1 slots\n")


def test_a_card_in_the_folder_is_card_mode(folder: Path) -> None:
    """[2.13] An agent-card.json in the working folder says what is served, and how."""
    (folder / "mine.py").write_text("def answer(task): ...\n", encoding="utf-8")
    card(folder, handler="mine.py", handlerExport="answer", concurrency=7)

    assert "[agent] echo: checked, 7 slots" in check().stdout


@pytest.mark.parametrize(("name", "slots"), [("echo", 7), ("adder", 1)])
def test_a_card_counts_for_its_own_agent_only(folder: Path, name: str, slots: int) -> None:
    """[2.13] With --handler the card in the folder applies when it is that agent's."""
    card(folder, concurrency=7)

    assert f"[agent] {name}: checked, {slots} slots" in check("--handler", name).stdout


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
