"""`blocks deploy`: files for the agents of a folder, and never over others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from blocks_worker.cli.main import blocks


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with two handlers of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "served_here.py").write_text("def one(task): ...\ndef two(task): ...\n", encoding="utf-8")
    handlers = [
        {"name": name, "runtime": "python", "entrypoint": f"served_here:{name}", "requiresEnv": ["NOT_SET_HERE"]}
        for name in ("one", "two")
    ]
    (tmp_path / "registry.json").write_text(json.dumps({"schemaVersion": "1.0", "handlers": handlers}))
    return tmp_path


def deployed(*arguments: str) -> Result:
    """Run `blocks deploy --systemd`."""
    return CliRunner().invoke(blocks, ["deploy", "--systemd", *arguments])


def test_each_agent_of_the_folder_gets_a_unit_and_its_settings(folder: Path) -> None:
    """Names, paths and the commands that install them come from what is there."""
    result = deployed("--hub", "--json")
    told = json.loads(result.stdout)

    assert [Path(file).name for file in told["files"]] == [
        "blocks-worker-one.service",
        "one.env",
        "blocks-worker-two.service",
        "two.env",
        "blocks-hub.service",
    ]
    unit = (folder / "deploy" / "blocks-worker-two.service").read_text(encoding="utf-8")
    assert f"--handler two --registry {folder / 'registry.json'} " in unit
    assert "#NOT_SET_HERE=" in (folder / "deploy" / "two.env").read_text(encoding="utf-8")
    assert told["commands"].index("sudo systemctl enable --now blocks-hub") < told["commands"].index(
        "sudo systemctl enable --now blocks-worker-one"
    )


def test_nothing_is_written_over(folder: Path) -> None:
    """What is there stays, all of it, unless --force is said."""
    assert deployed("--handler", "one").exit_code == 0
    (folder / "deploy" / "one.env").write_text("mine", encoding="utf-8")

    refused = deployed()

    assert (refused.exit_code, "--force" in refused.stderr) == (1, True)
    assert not (folder / "deploy" / "two.env").exists()
    assert (folder / "deploy" / "one.env").read_text(encoding="utf-8") == "mine"
    assert deployed("--handler", "one", "--force").exit_code == 0
    assert (folder / "deploy" / "one.env").read_text(encoding="utf-8") != "mine"


def test_no_secret_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment goes into no file."""
    monkeypatch.setenv("BLOCKS_API_KEY", "bk_canary_canary")
    monkeypatch.setenv("BLOCKS_CDM_URL", "https://hub.example/cdm")

    assert deployed("--out", "here").exit_code == 0
    texts = [path.read_text(encoding="utf-8") for path in (folder / "here").iterdir()]

    assert not any("canary" in text for text in texts)
    assert any("BLOCKS_CDM_URL=https://hub.example/cdm\n" in text for text in texts)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--name", "x"), "--name names one service"),
        (("--handler", "one", "--name", "a/b"), "is no name of a service"),
        (("--handler", "one", "--name", "blocks-hub"), "is the name of the hub's service"),
        (("--handler", "one", "--name", ".."), "is no name of a service"),
        (("--handler", "one", "--user", "bob\nExecStartPre=/bin/evil"), "is no name of a user"),
        (("--handler", "one", "--user", "%i"), "is no name of a user"),
        (("--handler", "nobody"), "nobody"),
    ],
)
def test_what_cannot_be_served_is_told(arguments: tuple[str, ...], told: str) -> None:
    """A wrong name ends in one line, and writes nothing."""
    result = deployed(*arguments)

    assert (result.exit_code, told in result.stderr) == (1, True), result.output
    assert not Path("deploy").exists()


def test_a_service_may_have_another_name(folder: Path) -> None:
    """--name names the files, the state folder and the key."""
    assert deployed("--handler", "one", "--name", "first").exit_code == 0

    unit = (folder / "deploy" / "blocks-worker-first.service").read_text(encoding="utf-8")
    assert "LoadCredential=api-key:/etc/blocks-worker/first.key\n" in unit


def test_two_handlers_of_one_agent_are_refused(folder: Path) -> None:
    """Their files would have the same names, and the second would take the place of the first."""
    handlers = [{"name": name, "entrypoint": f"served_here:{name}", "agentName": "same"} for name in ("one", "two")]
    (folder / "registry.json").write_text(json.dumps({"schemaVersion": "1.0", "handlers": handlers}))

    refused = deployed()

    assert (refused.exit_code, "one and two are both the agent 'same'" in refused.stderr) == (1, True), refused.output
    assert not (folder / "deploy").exists()
    assert deployed("--handler", "two").exit_code == 0


@pytest.mark.parametrize("name", ["in\nExecStartPre=touch pwned\n#", "back\\", "ends in a blank "])
def test_a_folder_whose_name_would_be_read_as_more_is_refused(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line break adds a line to the unit, a backslash joins the next one: neither is written."""
    (folder / name).mkdir()
    monkeypatch.chdir(folder / name)
    (folder / name / "mine.py").write_text("def handler(task): ...\n", encoding="utf-8")

    refused = deployed("--handler", "mine.py:handler", "--out", str(folder / "out"))

    assert (refused.exit_code, "cannot stand in a unit" in refused.stderr) == (1, True), refused.output
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "address",
    [
        "http://h/x\nLD_PRELOAD=/evil.so",
        "http://h/x\\",
        "http://h/'x",
        "http://me:canary@h/x",
        "http://h/?token=canary",
    ],
)
def test_an_address_that_would_be_read_as_more_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It adds no line to the settings, and no secret. [G8]"""
    monkeypatch.setenv("BLOCKS_CDM_URL", address)

    refused = deployed("--handler", "one")

    assert (refused.exit_code, "cannot stand in a file of settings" in refused.stderr) == (1, True), refused.output
    assert "canary" not in refused.output
    assert not Path("deploy").exists()


def test_an_agent_may_be_called_hub(folder: Path) -> None:
    """Its settings are none of the hub's."""
    (folder / "served_here.py").write_text("def hub(task): ...\n", encoding="utf-8")

    assert deployed("--hub", "--handler", "served_here.py:hub").exit_code == 0
    units = {path.name: path.read_text(encoding="utf-8") for path in (folder / "deploy").glob("*.service")}

    assert "EnvironmentFile=/etc/blocks-worker/hub.env\n" in units["blocks-worker-hub.service"]
    assert "/hub.env" not in units["blocks-hub.service"]
