"""`blocks doctor`: each fault is real, is found, and is told with its cure; a sound machine has no finding."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from acceptance.conftest import BIN, free_port
from click.testing import CliRunner, Result
from support_hub import Caller, SetClock, running_hub
from support_proxy import FaultProxy
from support_squatter import NOISE, NOT_FOUND, PAGE, Squatter

from blocks_worker.cli.health_pages import HealthPages
from blocks_worker.cli.health_port import HealthPort
from blocks_worker.cli.main import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR = 3600


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with a state folder of its own that is not there yet and a port that is free."""
    (work := tmp_path / "work").mkdir()
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))
    for name in [name for name in os.environ if name.startswith("BLOCKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path / "state"))
    keep_port(tmp_path / "state", hub_port=free_port())
    return work


def keep_port(state: Path, **ports: int) -> None:
    """Leave behind what a hub leaves that has ended."""
    state.mkdir(mode=0o700, exist_ok=True)
    (state / "hub-kept.json").write_text(json.dumps(ports), encoding="utf-8")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """Run one hub for all tests of this file."""
    with running_hub(tmp_path_factory.mktemp("hub")) as caller:
        yield caller


@pytest.fixture
def entered(hub: Caller, monkeypatch: pytest.MonkeyPatch) -> Caller:
    """Be configured for the hub as a worker elsewhere is."""
    monkeypatch.setenv("BLOCKS_CDM_URL", f"{hub.address.url}/api/v1/cdm")
    monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
    return hub


def examined(*arguments: str) -> Result:
    """Run `blocks doctor`."""
    return CliRunner().invoke(blocks, ["doctor", *arguments])


def wrong(*arguments: str) -> list[dict[str, Any]]:
    """Return the findings that are no notes; there has to be one, each has a cure, and they make the exit code."""
    result = examined("--json", *arguments)
    found = [one for one in json.loads(result.stdout) if one["level"] != "note"]
    assert result.exit_code == (1 if found else 0)
    assert [one for one in found if not one["cure"]] == []
    return found


def the_one(*arguments: str) -> tuple[str, str, str]:
    """Return place, text and cure of the only finding that is no note."""
    (found,) = wrong(*arguments)
    return found["where"], found["text"], found["cure"]


def test_a_sound_machine_has_no_finding(entered: Caller) -> None:
    """All is looked at, said in a line each, exit code 0, and no secret is shown."""
    result = examined()

    assert result.exit_code == 0, result.output
    places = [line.split(": ")[1] for line in result.stdout.splitlines()]
    assert places == ["python", "environment", "state folder", "ports", "agent", "hub", "clock", "key", "network"]
    assert {line.split(": ")[0] for line in result.stdout.splitlines()} == {"note"}
    assert entered.key not in result.output


def test_nothing_is_changed(hub: Caller, entered: Caller, tmp_path: Path) -> None:
    """Neither here nor at the hub: no folder is made, the key counts as never used."""

    def seen() -> tuple[Any, list[Path]]:
        keys = hub.ask("GET", "/api/v1/auth/keys", bearer=hub.key).json
        return keys, sorted(tmp_path.rglob("*"))

    before = seen()

    assert examined().exit_code == 0
    assert seen() == before


# ------------------------------------------------------------------------------------------------ address
def test_an_address_where_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that nothing answers there, and what to set."""
    monkeypatch.setenv("BLOCKS_HUB_URL", f"http://127.0.0.1:{free_port()}")

    where, text, cure = the_one("--no-local")

    assert (where, "no hub answers" in text, "Connection refused" in text) == ("hub", True, True)
    assert "BLOCKS_CDM_URL" in cure


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it is the name, and which."""
    monkeypatch.setenv("BLOCKS_CDM_URL", "https://hub.nowhere.invalid/api/v1/cdm")
    monkeypatch.setenv("BLOCKS_API_KEY", "bk_of_somewhere")

    where, text, cure = the_one()

    assert (where, "its name is not known" in text) == ("hub", True)
    assert "'hub.nowhere.invalid'" in cure


@pytest.mark.parametrize("answer", [NOT_FOUND, PAGE, NOISE], ids=["404", "a page", "noise"])
def test_an_address_of_something_else(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers and is no hub is told as such, and which process it is."""
    port = free_port()
    monkeypatch.setenv("BLOCKS_CDM_URL", f"http://127.0.0.1:{port}/api/v1/cdm")
    with Squatter(port, answer):
        found = {one["where"]: one for one in wrong()}

    assert found.keys() == {"ports", "hub"}
    assert f"process {os.getpid()}" in found["ports"]["text"]


def test_a_document_that_names_another_hub(entered: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A document that is read, and whose hub does not answer, is told as that."""
    document = entered.ask("GET", "/api/v1/cdm").json
    gone = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "cdm.json").write_text(json.dumps({**document, "hubUrl": gone}), encoding="utf-8")
    monkeypatch.setenv("BLOCKS_CDM_URL", str(tmp_path / "cdm.json"))

    where, text, _ = the_one()

    assert (where, f"names {gone}" in text) == ("hub", True)


def test_a_hub_that_never_answers(hub: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for a few seconds, and told."""
    with FaultProxy(hub.address.url) as proxy:
        proxy.black_hole()
        monkeypatch.setenv("BLOCKS_HUB_URL", proxy.url)
        found = {one["where"]: one for one in wrong("--no-local")}

    assert "no answer in time" in found["hub"]["text"]


# ------------------------------------------------------------------------------------------------ key
def test_a_key_that_the_hub_does_not_know(entered: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told without the key itself."""
    monkeypatch.setenv("BLOCKS_API_KEY", secret := "bk_never_made_by_anybody_at_all")

    where, text, cure = the_one()

    assert (where, text) == ("key", "the API key is missing or unknown")
    assert "BLOCKS_API_KEY" in cure
    assert secret not in examined().output


def test_a_key_that_was_revoked(entered: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds it is told that it counted once."""
    made = entered.ask("POST", "/api/v1/auth/keys", {"name": "gone"}, bearer=entered.key).json
    assert entered.ask("DELETE", f"/api/v1/auth/keys/{made['id']}", bearer=entered.key).status == 204
    monkeypatch.setenv("BLOCKS_API_KEY", made["key"])

    assert the_one()[:2] == ("key", "the API key was revoked")


@pytest.mark.parametrize(
    ("key", "kind"), [("sub-c-0123", "a subscribe key of PubNub"), ("eyJhbGciOi.J9.x", "a token")], ids=["sub", "jwt"]
)
def test_a_key_of_another_kind(key: str, kind: str, entered: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no API key of a hub is told for what it is."""
    monkeypatch.setenv("BLOCKS_API_KEY", key)

    assert the_one()[1].endswith(f"it looks like {kind}")


def test_no_key_for_a_hub_on_this_machine(entered: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder without a key of its own has none to show."""
    monkeypatch.delenv("BLOCKS_API_KEY")

    assert the_one()[:2] == ("key", "there is none for this hub")


# ------------------------------------------------------------------------------------------------ clock
class Front(BaseHTTPRequestHandler):
    """Stand before a hub whose machine has another time: every answer is the hub's, but for its date."""

    def __init__(self, target: str, ahead: float, *rest: Any) -> None:
        self._target, self._ahead = target, ahead
        super().__init__(*rest)

    def do_GET(self) -> None:
        """Answer as the hub does."""
        headers = {name: value for name, value in self.headers.items() if name.lower() == "authorization"}
        with urllib3.PoolManager() as pool:
            answer = pool.request("GET", self._target + self.path, headers=headers)
        body = answer.data.replace(self._target.encode(), f"http://{self.headers['Host']}".encode())
        self.send_response_only(answer.status)
        self.send_header("Date", formatdate(SetClock().wall_ms() / 1000 + self._ahead, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(("ahead", "side"), [(HOUR, "behind"), (-HOUR, "ahead of")])
def test_a_clock_that_is_an_hour_off(ahead: float, side: str, entered: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that dates its answers an hour apart from this machine is told, with the side and the seconds."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Front, entered.address.url, ahead)) as front:
        server = threading.Thread(target=front.serve_forever, args=(0.01,))
        server.start()
        monkeypatch.setenv("BLOCKS_HUB_URL", f"http://127.0.0.1:{front.server_port}")
        monkeypatch.delenv("BLOCKS_CDM_URL")
        try:
            where, text, cure = the_one()
        finally:
            front.shutdown()
            server.join(10)

    seconds = re.fullmatch(rf"this machine is (\d+) s {side} the hub", text)
    assert (where, "timedatectl" in cure) == ("clock", True)
    assert seconds is not None
    assert abs(int(seconds[1]) - HOUR) <= 60


class AheadClock(SetClock):
    """Be an hour ahead, for people and for the network."""

    ahead = HOUR

    def wall_ticks(self) -> int:
        """Return unix time in steps of 100 ns, moved."""
        return super().wall_ticks() + HOUR * 10_000_000


def test_a_network_with_another_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's clock is asked too: it belongs to neither of the two."""
    with running_hub(tmp_path / "hub", clock=AheadClock()) as ahead:
        monkeypatch.setenv("BLOCKS_HUB_URL", ahead.address.url)
        monkeypatch.setenv("BLOCKS_API_KEY", ahead.key)
        where, text, _ = the_one()

    seconds = re.fullmatch(r"this machine is (\d+) s behind the network", text)
    assert (where, seconds is not None) == ("clock", True), text
    assert seconds is not None
    assert abs(int(seconds[1]) - HOUR) <= 60


# ------------------------------------------------------------------------------------------------ ports, network
def test_ports_that_somebody_else_has(tmp_path: Path) -> None:
    """The ports of the last hub and its network are told with the process that has them now."""
    hub_port, network_port = free_port(), free_port()
    keep_port(tmp_path / "state", hub_port=hub_port, network_port=network_port)
    with Squatter(hub_port, PAGE), Squatter(network_port):
        texts = [(one["where"], one["text"]) for one in wrong()]

    assert [where for where, _ in texts] == ["ports", "ports"]
    assert texts[0][1].startswith(f"{hub_port}, the port of the hub, is taken by something that is no hub: ")
    assert texts[1][1].startswith(f"{network_port}, the port of the network, is taken")
    assert all(text.endswith(f"process {os.getpid()}") for _, text in texts)


def test_the_local_hub_has_its_ports(tmp_path: Path) -> None:
    """The hub of this state folder is found as it announced itself, with its key."""
    with running_hub(tmp_path / "state"):
        result = examined()

    assert result.exit_code == 0, result.output
    assert f"are those of the local hub, process {os.getpid()}" in result.stdout


def test_a_network_that_cannot_be_reached(entered: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub answers and its network does not: that is told apart."""
    document = entered.ask("GET", "/api/v1/cdm").json
    gone = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "cdm.json").write_text(json.dumps({**document, "origin": gone}), encoding="utf-8")
    monkeypatch.setenv("BLOCKS_CDM_URL", str(tmp_path / "cdm.json"))

    where, text, _ = the_one()

    assert (where, text.startswith(f"{gone} does not answer")) == ("network", True)


def test_where_all_goes_over_the_link_there_is_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that has others speak by `hublink` is found well; a worker told otherwise has the network looked at."""
    with running_hub(tmp_path / "state", transport="hublink"):
        linked = examined()
        monkeypatch.setenv("BLOCKS_TRANSPORT", "pubnub")
        told = examined()

    assert (linked.exit_code, told.exit_code) == (0, 0), linked.output
    assert "note: network: there is none to reach: all goes over one link to the hub (hublink)\n" in linked.stdout
    assert re.search(r"network: http\S+ answers\n", told.stdout)


def test_a_transport_of_another_release(entered: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What this release cannot speak is told with what it can."""
    document = entered.ask("GET", "/api/v1/cdm").json
    (tmp_path / "cdm.json").write_text(json.dumps({**document, "transport": "pigeon"}), encoding="utf-8")
    monkeypatch.setenv("BLOCKS_CDM_URL", str(tmp_path / "cdm.json"))

    assert the_one()[:2] == ("network", "the hub speaks by 'pigeon', this release knows 'pubnub' and 'hublink'")


# ------------------------------------------------------------------------------------------------ state folder
def test_a_state_folder_below_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no folder is named."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path / "file" / "state"))

    where, text, cure = the_one()

    assert (where, text) == ("state folder", f"{tmp_path / 'file'} is no folder")
    assert "BLOCKS_STATE_DIR" in cure


def test_a_state_folder_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A place where nobody may write, not even root, is found, and no rights are told to be changed there."""
    monkeypatch.setenv("BLOCKS_STATE_DIR", "/proc/x")

    (found,) = [one for one in wrong() if one["where"] == "state folder"]
    assert (found["level"], "cannot be made in /proc" in found["text"]) == ("error", True)
    assert found["cure"].startswith("name another folder in BLOCKS_STATE_DIR")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_state_folder_below_one_of_roots() -> None:
    """Whom the folder above does not belong to is not told to change its rights."""
    script = (
        "import os, pathlib, sys; from blocks_worker.cli.checks.folder import state_folder; os.seteuid(65534); "
        "print(*state_folder(pathlib.Path('/surely-not-here/state')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert "cannot be made in / (Permission denied); name another folder" in done.stdout
    assert "chmod" not in done.stdout


def test_a_state_folder_that_will_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was tried is taken away again."""
    monkeypatch.setenv("BLOCKS_STATE_DIR", str(tmp_path / "later" / "state"))
    before = sorted(tmp_path.rglob("*"))

    assert "is not there yet" in examined().stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_a_state_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose it is, and who we are, is told."""
    if os.geteuid() == 0:
        os.chown(tmp_path / "state", 65534, 65534)
    else:
        monkeypatch.setenv("BLOCKS_STATE_DIR", "/usr/lib")

    where, text, cure = the_one()

    assert (where, "belongs to" in text, "chown" in cure) == ("state folder", True, True)


def test_a_key_that_others_may_read(tmp_path: Path) -> None:
    """A secret with rights for others is told with the command that mends it."""
    (tmp_path / "state" / "local-key").write_text("bk_" + "x" * 40, encoding="utf-8")
    (tmp_path / "state" / "local-key").chmod(0o644)

    where, text, cure = the_one()

    assert (where, "can be read by others" in text, "chmod 600" in cure) == ("state folder", True, True)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """On a small disk that is filled to the last page, it is told how much is free and how much is needed."""
    script = (
        f"mount -t tmpfs -o size=1m,mode=700 none {tmp_path}/state && cd {tmp_path}/work && "
        f"{{ head -c 2000000 /dev/zero > {tmp_path}/state/filling 2>/dev/null; "
        f"{BIN}/blocks doctor --json; }}"
    )
    tried = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False, timeout=20
    )
    if tried.returncode:
        pytest.skip("this machine lets nobody mount a disk of his own")
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout, done.stderr
    found = [one for one in json.loads(done.stdout) if one["level"] != "note"]

    assert [one["where"] for one in found] == ["state folder"]
    assert "nearly full: 0 MB free" in found[0]["text"]


@pytest.mark.parametrize(
    ("name", "content", "where", "said"),
    [
        ("hub.sqlite3", b"no database at all" * 99, "ledger", "file is not a database"),
        ("hub-signing-keys.json", b"{}", "state folder", "is not what a hub writes"),
        ("hub-secret", b"short", "state folder", "is too short to be a secret"),
        ("hub-secret", b"ghijklmnopqrstuvwxyz" * 4, "state folder", "is no hexadecimal number"),
    ],
)
def test_what_a_hub_could_not_open(name: str, content: bytes, where: str, said: str, tmp_path: Path) -> None:
    """What the next start would end with is told before it, and nothing is touched."""
    (tmp_path / "state" / name).write_bytes(content)
    (tmp_path / "state" / name).chmod(0o600)

    found = the_one()

    assert (found[0], said in found[1]) == (where, True), found
    assert (tmp_path / "state" / name).read_bytes() == content


def test_a_ledger_that_is_sound(tmp_path: Path) -> None:
    """What a hub left that has ended is opened as it is, and no file is made beside it."""
    with running_hub(tmp_path / "state"):
        pass
    before = sorted(path.name for path in (tmp_path / "state").iterdir())

    assert wrong() == []
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == before


def test_a_health_port_that_somebody_else_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told; one of a worker is none of a stranger's."""
    port = free_port()
    monkeypatch.setenv("BLOCKS_HEALTH_PORT", str(port))
    with Squatter(port, PAGE):
        where, text, cure = the_one()
    with HealthPort(port, HealthPages([])):
        assert wrong() == []

    assert (where, text, "BLOCKS_HEALTH_PORT" in cure) == ("health port", f"the health port {port} is taken", True)


# ------------------------------------------------------------------------------------------------ handlers, Python
def test_a_handler_that_does_not_import(folder: Path) -> None:
    """File and line are told."""
    (folder / "mine.py").write_text("import nothing_of_this_name\n", encoding="utf-8")

    where, text, _ = the_one("--handler", "mine:handler")

    assert (where, "mine.py line 1" in text) == ("handler 'mine:handler'", True)


def test_a_module_that_raises_what_nobody_expects(folder: Path) -> None:
    """It ends no look in silence."""
    (folder / "raises.py").write_text("raise KeyboardInterrupt\n", encoding="utf-8")

    where, text, _ = the_one("--handler", "raises:handler")

    assert (where, text) == ("handler", "this look was ended by a KeyboardInterrupt")


def test_a_module_that_prints(folder: Path) -> None:
    """What it prints while it is imported is no part of the output."""
    (folder / "prints.py").write_text("print('hello')\ndef handler(task): ...\n", encoding="utf-8")

    result = examined("--json", "--handler", "prints:handler")

    assert json.loads(result.stdout)
    assert "hello" in result.stderr


def test_an_address_that_is_none_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an IPv6 address stops where it is read."""
    for name in ("BLOCKS_CDM_URL", "BLOCKS_HUB_URL"):
        monkeypatch.setenv(name, "http://[x")

        where, text, _ = the_one()
        monkeypatch.delenv(name)

        assert (where, name in text) == ("environment", True)


def test_a_card_that_breaks_a_rule(folder: Path) -> None:
    """Cards are held against their rules as `blocks check` does."""
    (folder / "mine2.py").write_text("def handler(task): ...\n", encoding="utf-8")
    card = {
        "identity": {"agentName": "carded", "displayName": "C", "description": "d", "version": "1"},
        "runtime": {"handler": "mine2.py", "concurrency": "2"},
    }
    (folder / "agent-card.json").write_text(json.dumps(card), encoding="utf-8")

    (found,) = wrong()

    assert (found["where"], found["path"], found["cure"]) == ("card", "runtime.concurrency", "change it")


def test_a_handler_that_hangs_while_it_is_imported(folder: Path) -> None:
    """The other findings are told all the same, and which look was not over."""
    (folder / "hangs.py").write_text(
        "import threading\nend = threading.Event()\nend.wait()\ndef handler(task): ...\n", encoding="utf-8"
    )
    try:
        where, text, _ = the_one("--handler", "hangs:handler", "--timeout", "8")
    finally:
        sys.modules["hangs"].end.set()

    assert (where, text) == ("handler", "this look was not over in time")


def test_libraries_and_python_below_their_bounds(folder: Path) -> None:
    """What is installed is read as the interpreter finds it, an older release in front of the path too."""
    for name, lines in {
        "pubnub-9.1.0": "Name: pubnub\nVersion: 9.1.0\n",
        "blocks_worker-9": "Name: blocks_worker\nVersion: 9\nRequires-Python: >=3.99\nRequires-Dist: pubnub<11,>=10.6\n"
        "Requires-Dist: surely-not-here>=1\n",
    }.items():
        (folder / f"{name}.dist-info").mkdir()
        (folder / f"{name}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\n{lines}", encoding="utf-8")

    found = wrong()

    assert [one["where"] for one in found] == ["python", "library", "library"]
    assert ">=3.99 is needed" in found[0]["text"]
    assert found[1]["text"] == "pubnub 9.1.0 is installed, <11,>=10.6 is needed"
    assert '-m pip install "pubnub<11,>=10.6"\'' in found[1]["cure"]
    assert found[2]["text"] == "surely-not-here is not installed"


def test_a_variable_that_nobody_reads(folder: Path) -> None:
    """A slip is told, in .env too, and what a handler of the registry asks for is none."""
    (folder / ".env").write_text("BLOCKS_API_KYE=x\nBLOCKS_MINE=y\n", encoding="utf-8")
    (folder / "mine3.py").write_text("def handler(task): ...\n", encoding="utf-8")
    entry = {"name": "m", "runtime": "python", "entrypoint": "mine3:handler", "requiresEnv": ["BLOCKS_MINE"]}
    (folder / "registry.json").write_text(json.dumps({"schemaVersion": "1.0", "handlers": [entry]}), encoding="utf-8")
    try:
        assert the_one() == ("environment", "nothing reads BLOCKS_API_KYE", "did you mean BLOCKS_API_KEY?")
    finally:
        for name in ("BLOCKS_API_KYE", "BLOCKS_MINE"):
            os.environ.pop(name, None)


def test_a_value_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that holds nonsense is told, and nothing is asked with it."""
    monkeypatch.setenv("BLOCKS_CDM_URL", "ftp://x")

    where, text, cure = the_one()

    assert (where, "BLOCKS_CDM_URL='ftp://x' is neither" in text, cure) == ("environment", True, "mend it or unset it")


@pytest.mark.parametrize(("name", "value"), [("LOG_LEVEL", "loud"), ("BLOCKS_CDM_URL", "hub:3001")])
def test_what_is_not_looked_at_is_said(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that cannot be is no end without a word: the folder is looked at, the rest is named."""
    monkeypatch.setenv(name, value)

    places = [line.split(": ")[1] for line in examined().stdout.splitlines()]

    assert places == ["environment", "python", "environment", "state folder", "not looked at"]


@pytest.mark.parametrize("command", ["doctor", "check"])
def test_a_line_of_dotenv_that_sets_nothing(folder: Path, command: str) -> None:
    """It is told with its number and what to write, and makes the exit code."""
    (folder / ".env").write_text("# ours\nBLOCKS_API_KEY: x y\n", encoding="utf-8")

    result = CliRunner().invoke(blocks, [command, "--json"])
    (found,) = [one for one in json.loads(result.stdout) if one["level"] != "note"]

    assert (found["level"], found["text"], result.exit_code) == ("warning", ".env:2 sets nothing", 1)
    assert "write NAME=value" in found["cure"]
    assert "python-dotenv" not in result.output


@pytest.mark.parametrize("command", ["doctor", "check"])
def test_a_dotenv_that_is_no_text(folder: Path, command: str) -> None:
    """A file that cannot be read at all is a finding as well."""
    (folder / ".env").write_bytes(b"\xff\xfe\x00A=1")

    result = CliRunner().invoke(blocks, [command, "--json"])

    assert result.exit_code == 1
    assert "environment" in {one["where"] for one in json.loads(result.stdout) if one["level"] == "error"}
