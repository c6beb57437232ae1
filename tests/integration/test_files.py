"""Files over the inline limit: real hub, worker and client, and bare HTTP where a liar is needed."""

from __future__ import annotations

import hashlib
import http.client
import json
import sqlite3
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from support import wait_until
from support_hub import Caller, let_in, running_hub
from support_link import Bearer
from support_proxy import FaultProxy, cdm_through

from blocks_worker import (
    BLOCKS_MAX_UPLOAD_BYTES,
    FileUploadError,
    TaskClient,
    download_artifact,
    file_part,
    presigned_upload_flow,
    start_agent_instance,
)
from blocks_worker.client.results import save_all
from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.config import state_dir
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.files import patience, store_file
from blocks_worker.controlplane.http import Http
from blocks_worker.errors import ArtifactError, RpcError
from blocks_worker.protocol.events import ArtifactRef
from blocks_worker.protocol.files import RequestUpload
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = bytes(range(256)) * 400


@pytest.fixture
def hub() -> Iterator[Caller]:
    """Run a hub in the state folder of this test."""
    with running_hub(state_dir()) as caller:
        yield caller


@pytest.fixture
def token(hub: Caller) -> str:
    """Return a consumer's token."""
    return str(hub.consumer()["accessToken"])


@pytest.fixture
def client(hub: Caller) -> Iterator[TaskClient]:
    """Create a client of the local hub."""
    with TaskClient.create("free") as made:
        yield made


def offered(hub: Caller, token: str, data: bytes, **said: Any) -> Any:
    """Ask for an upload of these bytes; return the offer."""
    fields = {"role": "consumer-input", "agentName": "echo", "fileSize": len(data), "fileName": "a.bin"}
    fields["sha256"] = hashlib.sha256(data).hexdigest()
    answered = hub.ask("POST", "/api/v1/files/request-upload", {**fields, **said}, bearer=token)
    assert answered.status == 200, answered
    return answered.json


def uploaded(hub: Caller, token: str, data: bytes, **said: Any) -> str:
    """Store these bytes; return the file's id."""
    offer = offered(hub, token, data, **said)
    assert hub.ask("PUT", offer["uploadUrl"], data).status == 200
    confirmed = hub.ask("POST", "/api/v1/files/confirm-upload", {"uploadId": offer["uploadId"]}, bearer=token)
    return str(confirmed.json["artifactRef"]["fileId"])


def stored() -> list[Path]:
    """Return what lies in the folder of files."""
    folder = state_dir() / "files"
    return sorted(folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("as_json", [False, True])
def test_what_the_command_saves_is_fetched_once(
    hub: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    """`blocks send --save` reads each file from the hub once, also where it prints what came as JSON."""
    options = {"agent_name": "echo", "handler": lambda _task: LARGE}
    with FaultProxy(hub.address.url) as proxy, start_agent_instance(options) as instance:
        instance.wait_ready(20)
        monkeypatch.setenv("BLOCKS_CDM_URL", cdm_through(hub.ask("GET", "/api/v1/cdm"), tmp_path, hub=proxy))
        monkeypatch.setenv("BLOCKS_API_KEY", hub.key)
        program = [sys.executable, "-c", "from blocks_worker.cli.main import main; main()"]
        command = [*program, "send", "echo", "x", "--save", str(tmp_path / "out")]
        done = subprocess.run(
            [*command, *(["--json"] if as_json else [])], capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        fetched = [one for one in proxy.exchanges if one.method == "GET" and one.path.startswith("/api/v1/files/")]

    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [LARGE]
    assert [one["size"] for one in json.loads(done.stdout or "{}").get("artifacts", [])] == [len(LARGE)] * as_json
    assert len(fetched) == 1


@pytest.mark.parametrize("size", [16_384, 16_385, 1_000_000])
def test_both_ways(hub: Caller, client: TaskClient, tmp_path: Path, size: int) -> None:
    """[A-7, A-15] 16,384 bytes travel inside, 16,385 as a file; both arrive whole, up and down, in every form."""
    data = (LARGE * 11)[:size]
    (tmp_path / "in.bin").write_bytes(data)

    def handler(task: Any, ctx: Any) -> Any:
        got = ctx.download_input_artifact(task.files[0])
        (tmp_path / "out.bin").write_bytes(got)
        ctx.publish_artifact(got, file_name="published.bin")
        return tmp_path / "out.bin"

    with start_agent_instance({"agent_name": "echo", "handler": handler}) as instance:
        instance.wait_ready(20)
        for source in (tmp_path / "in.bin", str(tmp_path / "in.bin"), data, bytearray(data)):
            session = client.send_message("echo", [file_part(source)])
            assert session.wait_for_terminal(30).error is None
            refs = session.list_artifacts()
            assert [ref.kind for ref in refs] == ["inline" if size <= 16_384 else "file"] * 2
            assert [ref.file_name for ref in refs] == ["published.bin", "out.bin"]
            for asked in (session.download_artifact(refs[0]), download_artifact(refs[1].to_dict(), client)):
                assert asked.data == data
            assert [path.read_bytes() for path in session.save_artifacts(tmp_path / "saved")] == [data, data]
            assert session.result().artifacts[1].data == data


def test_the_limit_of_the_environment(hub: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """[A-7] The inline limit of the environment holds on both sides."""
    monkeypatch.setenv("ARTIFACT_INLINE_LIMIT_BYTES", "10")
    kinds: list[str] = []

    def handler(task: Any, ctx: Any) -> bytes:
        kinds.append(task.files[0].artifact_ref.kind)
        return bytes(ctx.download_input_artifact(task.files[0]))

    with start_agent_instance({"agent_name": "echo", "handler": handler}) as instance, TaskClient.create("free") as one:
        instance.wait_ready(20)
        for data in (b"x" * 10, b"x" * 11):
            session = one.send_message("echo", [file_part(data)])
            assert session.wait_for_terminal(30).error is None
            assert session.result().artifacts[0].data == data
            kinds.append(session.list_artifacts()[0].kind)

    assert kinds == ["inline", "inline", "file", "file"]


def test_the_same_file_under_the_same_key_is_the_same_task(hub: Caller, client: TaskClient) -> None:
    """[3.4] A file sent again has another id in the store, and is the same content; another one is refused."""
    hub.connect()
    first, again = (
        client.send_message(agent_name="echo", request_parts=[file_part(LARGE)], idempotency_key="k") for _ in range(2)
    )

    assert (again.task_id, again.idempotent) == (first.task_id, True)
    with pytest.raises(RpcError) as caught:
        client.send_message(agent_name="echo", request_parts=[file_part(LARGE + b"x")], idempotency_key="k")
    assert caught.value.code == "IdempotencyConflict"


def test_headers_and_ranges(hub: Caller, token: str) -> None:
    """[R-46, F8] A file is an attachment under a name that breaks no header, and is read by ranges."""
    data = bytes(range(200))
    name = 'a"\r\nSet-Cookie: x=1\r\n\u202eé.html'
    path = f"/api/v1/files/{uploaded(hub, token, data, fileName=name, mimeType='text/html')}"

    whole = hub.ask("GET", path, bearer=token)
    wished = {"bytes=10-19": data[10:20], "bytes=190-": data[190:], "bytes=-5": data[-5:], "bytes=0-999": data}
    parts = {wish: hub.ask("GET", path, bearer=token, headers={"Range": wish}) for wish in wished}
    beyond = hub.ask("GET", path, bearer=token, headers={"Range": "bytes=200-"})

    assert (whole.status, whole.body) == (200, data)
    assert whole.headers["content-disposition"].startswith("attachment; filename*=UTF-8''a%22%0D%0A")
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in whole.headers
    assert {wish: (part.status, part.body) for wish, part in parts.items()} == {
        wish: (206, body) for wish, body in wished.items()
    }
    assert parts["bytes=10-19"].headers["content-range"] == "bytes 10-19/200"
    assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */200")
    for odd in ("bytes=1-2,4-5", "lines=1-2", "bytes=-", "bytes=9-1"):
        assert hub.ask("GET", path, bearer=token, headers={"Range": odd}).status == 200


def test_a_flipped_byte_is_not_taken(hub: Caller, token: str) -> None:
    """[F6] What is not what its hash says is 422, cannot be confirmed, and leaves nothing on the disk. [D-14]"""
    offer = offered(hub, token, LARGE)

    sent = hub.ask("PUT", offer["uploadUrl"], b"\xff" + LARGE[1:])
    confirmed = hub.ask("POST", "/api/v1/files/confirm-upload", {"uploadId": offer["uploadId"]}, bearer=token)

    assert (sent.status, sent.json["details"]) == (422, {"reason": "hash"})
    assert (confirmed.status, confirmed.code) == (409, "NotUploaded")
    assert hub.ask("GET", f"/api/v1/files/{offer['uploadId']}", bearer=token).status == 404
    assert stored() == []


def test_a_wrong_length_is_not_taken(hub: Caller, token: str) -> None:
    """[F5] More or less than was said is refused, before or at its end, and leaves nothing. [D-14]"""
    for data in (LARGE[:-1], LARGE + b"x"):
        assert hub.ask("PUT", offered(hub, token, LARGE)["uploadUrl"], data).status == 422
    short = chunked(hub, offered(hub, token, LARGE)["uploadUrl"], [LARGE[:-1]])

    assert short == 422
    assert stored() == []


def test_an_endless_body_is_cut(hub: Caller, token: str) -> None:
    """[F5] Whoever sends on and on is told 413, and nothing stays."""
    status = chunked(hub, offered(hub, token, LARGE)["uploadUrl"], (LARGE for _ in range(1000)))

    assert status == 413
    wait_until(lambda: stored() == [], what="the temporary file is gone")


def begun(hub: Caller, url: str, part: bytes, size: int = len(LARGE)) -> None:
    """Send the beginning of a file, wait until it is on the disk, and hang up."""
    connection = http.client.HTTPConnection(urlsplit(hub.address.url).netloc, timeout=20)
    connection.putrequest("PUT", url)
    connection.putheader("Content-Length", str(size))
    connection.endheaders()
    connection.send(part)
    wait_until(lambda: hub.ask("GET", url).json["offset"] == len(part), what="the beginning on the disk")
    connection.close()


def rest(hub: Caller, url: str, data: bytes, first: int) -> Any:
    """Send the rest of a file; return the answer."""
    said = f"bytes {first}-{len(data) - 1}/{len(data)}" if first < len(data) else f"bytes */{len(data)}"
    return hub.ask("PUT", url, data[first:], headers={"Content-Range": said})


def test_an_upload_that_is_cut_goes_on(hub: Caller, token: str) -> None:
    """An upload that breaks off after each tenth goes on where it was: little is sent twice, and it is whole. [F1]"""
    data = LARGE * 20
    tenth = len(data) // 10
    about = RequestUpload(role="consumer-input", agent_name="echo")
    with FaultProxy(hub.address.url) as proxy:
        proxy.cut_bodies([tenth] * 9)
        http = Http(proxy.url)
        # With its pauses: the hub still writes what came just before the cut.
        again = patience(Clock(), Entropy(), 60)
        ref = store_file(HubApi(http, Bearer(token)), data, about, again).artifact_ref
        http.close()
        sent = [len(one.body) for one in proxy.exchanges if one.method == "PUT"]

    assert sent[:9] == [tenth] * 9
    assert sum(sent) < len(data) * 2
    assert hub.ask("GET", f"/api/v1/files/{ref.file_id}", bearer=token).body == data
    assert [path.name for path in stored()] == [ref.file_id]


def test_half_a_file_is_not_there(hub: Caller, token: str) -> None:
    """What is not whole is staged and nothing else: nobody reads or confirms it, whatever of it came. [F1]"""
    for tenths in (1, 5, 9):
        offer = offered(hub, token, LARGE)
        begun(hub, offer["uploadUrl"], LARGE[: len(LARGE) * tenths // 10])

        confirmed = hub.ask("POST", "/api/v1/files/confirm-upload", {"uploadId": offer["uploadId"]}, bearer=token)
        assert (confirmed.status, confirmed.code) == (409, "NotUploaded")
        assert hub.ask("GET", f"/api/v1/files/{offer['uploadId']}", bearer=token).status == 404
    assert [path.suffix for path in stored()] == [".part"] * 3


def test_the_rest_follows_what_is_there(hub: Caller, token: str) -> None:
    """The rest is taken from where the file ends, and to its end; anything else is told why, and costs nothing. [F1]"""
    url = offered(hub, token, LARGE)["uploadUrl"]
    begun(hub, url, LARGE[:50_000])

    for first in (49_999, 50_001, len(LARGE)):
        other = rest(hub, url, LARGE, first)
        assert (other.status, other.code, other.json["details"]) == (409, "OtherOffset", {"offset": 50_000})
    longer = rest(hub, url, LARGE + b"x", 50_000)
    assert (longer.status, longer.json["details"]) == (422, {"reason": "size"})
    for odd in ("bytes 50000-60000/102400", "bytes 102400-102399/102400", "lines 1-2/3"):
        assert hub.ask("PUT", url, b"", headers={"Content-Range": odd}).status in {400, 422}
    assert rest(hub, url, LARGE, 50_000).status == 200
    assert [rest(hub, url, LARGE, 50_000).status, hub.ask("GET", url).status] == [404, 404]


def test_a_file_that_changed_is_refused(hub: Caller, token: str) -> None:
    """The hash is that of the whole: a rest that belongs to another content is 422, and nothing stays. [F1]"""
    url = offered(hub, token, LARGE)["uploadUrl"]
    begun(hub, url, LARGE[:50_000])

    changed = rest(hub, url, LARGE[:-1] + b"!", 50_000)

    assert (changed.status, changed.json["details"]) == (422, {"reason": "hash"})
    assert hub.ask("GET", url).status == 404
    assert stored() == []


def test_who_comes_last_sends(hub: Caller, token: str) -> None:
    """A connection that died unnoticed is no hindrance: who goes on takes its place, and it writes no more. [F1]"""
    url = offered(hub, token, LARGE)["uploadUrl"]
    dead = http.client.HTTPConnection(urlsplit(hub.address.url).netloc, timeout=20)
    dead.putrequest("PUT", url)
    dead.putheader("Content-Length", str(len(LARGE)))
    dead.endheaders()
    dead.send(b"x" * 50_000)
    wait_until(lambda: hub.ask("GET", url).json["offset"] == 50_000, what="the beginning on the disk")

    assert hub.ask("PUT", url, LARGE).status == 200
    dead.send(b"x" * (len(LARGE) - 50_000))
    assert dead.getresponse().status == 409
    dead.close()
    assert [path.read_bytes() for path in stored()] == [LARGE]


def test_half_a_file_outlives_the_hub() -> None:
    """What came before the hub was started anew need not be sent again. [F1]"""
    with running_hub(state_dir()) as hub:
        token = str(hub.consumer()["accessToken"])
        offer = offered(hub, token, LARGE)
        begun(hub, offer["uploadUrl"], LARGE[:50_000])
    with running_hub(state_dir()) as hub:
        assert hub.ask("GET", offer["uploadUrl"]).json == {
            "uploadId": offer["uploadId"],
            "offset": 50_000,
            "size": len(LARGE),
        }
        assert rest(hub, offer["uploadUrl"], LARGE, 50_000).status == 200
        assert hub.ask("GET", f"/api/v1/files/{offer['uploadId']}", bearer=token).body == LARGE


def test_an_address_works_once(hub: Caller, token: str) -> None:
    """An upload address is used up by the first who comes; afterwards it is as if it had never been."""
    url = offered(hub, token, LARGE)["uploadUrl"]
    first, second = hub.ask("PUT", url, LARGE), hub.ask("PUT", url, LARGE)
    never = hub.ask("PUT", url[:-3] + "xyz", LARGE)

    assert (first.status, second.status) == (200, 404)
    assert second.body == never.body


def test_too_large_is_said_before_the_first_byte(hub: Caller, token: str, client: TaskClient, tmp_path: Path) -> None:
    """[R-40] The upload limit is checked by the hub at the request, and by the client before any network use."""
    said = {"role": "consumer-input", "agentName": "echo", "fileSize": BLOCKS_MAX_UPLOAD_BYTES + 1}
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(BLOCKS_MAX_UPLOAD_BYTES + 1)

    assert hub.ask("POST", "/api/v1/files/request-upload", said, bearer=token).status == 413
    with pytest.raises(ValueError, match=str(BLOCKS_MAX_UPLOAD_BYTES)):
        file_part(tmp_path / "huge")
    with pytest.raises(FileUploadError) as caught:
        presigned_upload_flow(
            hub.address.url, tmp_path / "huge", role="consumer-input", agent_name="echo", auth_provider=token
        )
    assert caught.value.status_code == 413


def test_foreign_files_are_not_there() -> None:
    """Another owner's file and one that never was get the same answer, byte for byte, at every door."""
    with running_hub(state_dir()):
        pass
    other = let_in(state_dir(), "somebody-else")
    with running_hub(state_dir()) as hub:
        hub.connect()
        mine, theirs = (str(hub.consumer(key)["accessToken"]) for key in (None, other))
        instance = str(hub.connect("other", key=other)["accessToken"])
        file_id, nothing = uploaded(hub, mine, LARGE), "0" * 32

        for stranger in (theirs, instance):
            foreign, never = (hub.ask("GET", f"/api/v1/files/{one}", bearer=stranger) for one in (file_id, nothing))
            assert (foreign.status, foreign.body) == (404, never.body)
            asked = [{"uploadId": one} for one in (file_id, nothing)]
            foreign, never = (hub.ask("POST", "/api/v1/files/confirm-upload", one, bearer=stranger) for one in asked)
            assert (foreign.status, foreign.body) == (404, never.body)
        ref = {"kind": "file", "size": len(LARGE), "fileId": file_id}
        task = {"agentName": "other", "requestParts": [{"partId": "f", "artifactRef": ref}]}
        refused = hub.ask("POST", "/api/v1/tasks", task, bearer=theirs)
        never = hub.ask("POST", "/api/v1/tasks", json.loads(json.dumps(task).replace(file_id, nothing)), bearer=theirs)
        assert refused.status == 400
        assert refused.body.replace(file_id.encode(), nothing.encode()) == never.body


def test_outputs_are_stored_by_the_run_only(hub: Caller, token: str) -> None:
    """Only the instance that holds a task may store its outputs; nobody else's word counts."""
    instance = str(hub.connect()["accessToken"])
    task = hub.submit(token)
    said = {"role": "provider-output", "taskId": task, "epoch": 1, "fileSize": 3}

    for bearer, status in ((instance, 409), (token, 401), (None, 401)):
        assert hub.ask("POST", "/api/v1/files/request-upload", said, bearer=bearer).status == status


def test_the_flow_without_a_client(hub: Caller, token: str, client: TaskClient, tmp_path: Path) -> None:
    """[3.10] Bytes, a path and a file object are stored; what is refused says with which status."""
    (tmp_path / "f").write_bytes(LARGE)
    with (tmp_path / "f").open("rb") as file:
        for source in (LARGE, tmp_path / "f", file):
            done = presigned_upload_flow(
                hub.address.url, source, role="consumer-input", agent_name="echo", auth_provider=token
            )
            assert download_artifact(done["artifactRef"], client).data == LARGE
    with pytest.raises(FileUploadError) as caught:
        presigned_upload_flow(hub.address.url, LARGE, role="consumer-input", agent_name="echo", auth_provider="wrong")
    assert caught.value.status_code == 401


def test_what_comes_is_checked(hub: Caller, token: str, client: TaskClient, tmp_path: Path) -> None:
    """A file that is not what its reference says is an error, and saving it leaves nothing."""
    file_id = uploaded(hub, token, LARGE)
    wrong = ArtifactRef(kind="file", size=len(LARGE), hash="0" * 64, file_id=file_id, file_name="x")
    for ref in (wrong, ArtifactRef(kind="file", size=3, file_id=file_id), ArtifactRef(kind="file")):
        with pytest.raises(ArtifactError):
            download_artifact(ref, client)
    with pytest.raises(ArtifactError):
        save_all([wrong], tmp_path / "out", client)
    assert list((tmp_path / "out").iterdir()) == []


def test_files_nobody_needs_go(hub: Caller, token: str) -> None:
    """[R-44] A file that no task uses, and one that never came, or half, go after a day; a used one stays. [F1]"""
    unused, used, never = uploaded(hub, token, LARGE), uploaded(hub, token, LARGE), offered(hub, token, LARGE)
    half = offered(hub, token, LARGE)
    begun(hub, half["uploadUrl"], LARGE[:50_000])
    hub.connect()
    ref = {"kind": "file", "size": len(LARGE), "fileId": used}
    hub.submit(token, requestParts=[{"partId": "f", "artifactRef": ref}])
    with sqlite3.connect(state_dir() / "hub.sqlite3", timeout=10) as ledger:
        ledger.execute("UPDATE file SET purge_at = 1 WHERE purge_at IS NOT NULL")
    ledger.close()

    wait_until(lambda: [path.name for path in stored()] == [used], what="the purge")
    for file_id, status in ((unused, 404), (never["uploadId"], 404), (half["uploadId"], 404), (used, 200)):
        assert hub.ask("GET", f"/api/v1/files/{file_id}", bearer=token).status == status


def test_a_full_disk_is_told() -> None:
    """[F10] Where no more may be written the answer is 507, nothing stays, and the hub lives on."""
    code = """
        import resource, sys
        from pathlib import Path
        from blocks_worker.config import HubConfig
        from blocks_worker.hub.hub import Hub

        hub = Hub(HubConfig(state_dir=Path(sys.argv[1]), port=0))
        hub.start()
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
        print("up", flush=True)
        sys.stdin.read()
        hub.stop()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(state_dir())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        address = StateFolder(state_dir()).discovered()
        assert address is not None
        hub = Caller(address, StateFolder(state_dir()).local_key())
        token = str(hub.consumer()["accessToken"])
        data = bytes(9 << 20)

        full = hub.ask("PUT", offered(hub, token, data)["uploadUrl"], data)
        with TaskClient.create("free") as client, pytest.raises(FileUploadError) as caught:
            client.send_message("echo", [file_part(data)])

        assert (full.status, full.code, caught.value.status_code) == (507, "NoRoom", 507)
        assert stored() == []
        assert uploaded(hub, token, LARGE)
        hub.pool.clear()
        process.communicate(timeout=60)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)  # noqa: PLW1510
    except FileNotFoundError:
        pytest.skip("there is no mount: the disk that is really full was not tried")
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here ({done.stderr.decode().strip()}): no disk was really full")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, hub: Caller, token: str) -> None:
    """[F10] A file larger than what is left on its file system is 507, leaves nothing, and a small one still goes."""
    (state_dir() / "files").symlink_to(small_disk)
    data = bytes(6 << 20)

    full = hub.ask("PUT", offered(hub, token, data)["uploadUrl"], data)

    assert (full.status, full.code) == (507, "NoRoom")
    assert list(small_disk.iterdir()) == []
    assert uploaded(hub, token, LARGE)


def chunked(hub: Caller, path: str, pieces: Any) -> int:
    """Send a body of unknown length; return the status, which may come before the end."""
    connection = http.client.HTTPConnection(urlsplit(hub.address.url).netloc, timeout=20)
    connection.putrequest("PUT", path)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    try:
        for piece in pieces:
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.send(b"0\r\n\r\n")
    except OSError:
        pass  # the hub has heard enough, and has said so
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_nearly_full_disk_takes_no_inputs() -> None:
    """A hub that takes no new tasks for want of room takes no inputs of them either."""
    with running_hub(state_dir(), reserve_bytes=1 << 60) as hub:
        said = {"role": "consumer-input", "agentName": "echo", "fileSize": 3}
        token = str(hub.consumer()["accessToken"])

        refused = hub.ask("POST", "/api/v1/files/request-upload", said, bearer=token)

        assert (refused.status, refused.code) == (507, "NoRoom")


def test_a_file_goes_on_over_a_restart_of_the_hub(tmp_path: Path) -> None:
    """A hub that stops while a result is to be stored is waited for: the task completes with its file."""
    release = threading.Event()

    def handler(_task: Any, _ctx: Any) -> bytes:
        release.wait(20)
        return LARGE

    with running_hub(state_dir()) as hub:
        port = urlsplit(hub.address.url).port
        client = TaskClient.create("free")
        there = {"cdm_url": f"{hub.address.url}/api/v1/cdm", "embedded_hub": False}
        instance = start_agent_instance({"agent_name": "echo", "handler": handler, **there})
        instance.wait_ready(20)
        session = client.send_message("echo", "hi")
        wait_until(lambda: session.state == "running", 20, "the run")
    release.set()
    with running_hub(state_dir(), port=port), client, instance:
        assert session.wait_for_terminal(60).error is None
        assert session.result().artifacts[0].data == LARGE
        assert [path.read_bytes() for path in session.save_artifacts(tmp_path)] == [LARGE]
