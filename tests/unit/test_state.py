import stat
import subprocess
import sys
from pathlib import Path

import pytest

from blocks_worker.errors import ConfigurationError
from blocks_worker.processes import is_alive, this_process
from blocks_worker.protocol.leases import Process
from blocks_worker.state import LocalHub, StateFolder


def hub_of(process: Process) -> LocalHub:
    """Return the announcement of a hub that this process runs."""
    return LocalHub(
        url="http://127.0.0.1:1",
        origin="http://127.0.0.1:2",
        host=process.host,
        pid=process.pid,
        started=process.started,
        version="0",
    )


def test_a_secret_is_made_once_and_private(tmp_path: Path) -> None:
    """Two folders on one path read one secret, which nobody else may read."""
    path = tmp_path / "state"

    first = StateFolder(path).secret("token-secret")

    assert first == StateFolder(path).secret("token-secret")
    assert len(first) == 32
    assert stat.S_IMODE((path / "token-secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A readable secret is no secret: the error names the file and the cure. [K12]"""
    folder = StateFolder(tmp_path)
    folder.secret("token-secret")
    (tmp_path / "token-secret").chmod(0o644)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        folder.secret("token-secret")


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    """A secret that somebody typed by hand is refused. [K12]"""
    (tmp_path / "local-key").write_text("hunter2")
    (tmp_path / "local-key").chmod(0o600)

    with pytest.raises(ConfigurationError, match="too short"):
        StateFolder(tmp_path).local_key()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The error says which folder, and which variable names another."""
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="BLOCKS_STATE_DIR"):
        StateFolder(tmp_path / "file" / "state").prepare()


def test_the_lock_is_free_again_when_its_holder_dies(tmp_path: Path) -> None:
    """One process holds the lock; when it is killed another gets it."""
    code = (
        "import sys, pathlib; from blocks_worker.state import StateFolder; "
        "folder = StateFolder(pathlib.Path(sys.argv[1])); print(folder.try_lock(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        folder = StateFolder(tmp_path)

        assert not folder.try_lock()

        holder.kill()
        holder.wait()

    assert folder.try_lock()
    folder.unlock()


def test_a_hub_whose_process_is_gone_is_not_discovered(tmp_path: Path) -> None:
    """An announcement counts as long as its process lives."""
    folder = StateFolder(tmp_path)
    folder.announce(hub_of(this_process()))
    assert folder.discovered() == hub_of(this_process())

    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    folder.announce(hub_of(Process(host=this_process().host, pid=gone.pid, started="1")))

    assert folder.discovered() is None


def test_a_process_on_another_host_cannot_be_told() -> None:
    """Nothing is said of a process that cannot be seen from here."""
    assert is_alive(Process(host="elsewhere", pid=1, started="1")) is None
    assert is_alive(this_process()) is True


@pytest.mark.parametrize("content", ["[" * 100_000, "{", "5", '{"url": "x"}', '{"a": NaN}'])
def test_a_spoilt_announcement_announces_no_hub(tmp_path: Path, content: str) -> None:
    """Whatever stands in the file, nobody fails over it: there is no hub here. [H2]"""
    folder = StateFolder(tmp_path / "state")
    folder.save_json("hub.json", {})
    (tmp_path / "state" / "hub.json").write_text(content, encoding="utf-8")

    assert folder.discovered() is None
