"""What probes stand on: a hub whose audit is read, and worlds in it that have one of everything a hub keeps."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from support_hub import Answered, Caller, running_hub

from blocks_worker.hub.audit import ACTS, REFUSALS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_numbers = itertools.count(1)
DATA = b"a file"


@dataclass
class Record:
    """Read what a file of the audit got since the last look."""

    path: Path
    read: int = 0

    def new(self) -> list[dict[str, Any]]:
        """Return the new lines."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.read)
            said = file.read()
        self.read += len(said)
        return [json.loads(line) for line in said.splitlines()]


@dataclass
class Arena:
    """One hub, its callers, and its audit."""

    hub: Caller
    folder: Path
    acts: Record = field(init=False)
    refusals: Record = field(init=False)

    def __post_init__(self) -> None:
        self.acts, self.refusals = Record(self.folder / ACTS), Record(self.folder / REFUSALS)

    def refused(self, method: str, path: str, body: Any = None, **sent: Any) -> tuple[Answered, dict[str, Any]]:
        """Send what has to be refused; return the answer, and the record that it left."""
        self.refusals.new()
        answered = self.hub.ask(method, path, body, **sent)
        records = [line for line in self.refusals.new() if line["method"] == method]
        assert 400 <= answered.status < 500, (answered, method, path, body)
        assert records, ("no record", answered)
        assert records[-1]["status"] == answered.status
        return answered, records[-1]

    def owner(self, name: str) -> str:
        """Return an API key of an owner."""
        made = self.hub.ask("POST", "/api/v1/auth/keys", {"name": "test", "owner": name}, bearer=self.hub.key)
        return str(made.json["key"])

    def raw(self, sent: bytes, *, network: bool = False, timeout: float = 20.0) -> bytes:
        """Send bytes as they are; return all that comes back until the other side closes."""
        where = urlsplit(self.hub.address.origin if network else self.hub.address.url)
        connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=timeout)
        connection.connect()
        pieces: list[bytes] = []
        try:
            connection.sock.sendall(sent)
            while piece := connection.sock.recv(65536):
                pieces.append(piece)
        except ConnectionError:
            pass  # cut, which is an answer too
        finally:
            connection.close()
        return b"".join(pieces)

    def network(
        self, act: str, channel: str, grant: str | None, user: str, message: str = "1", *, keys: str = "playground"
    ) -> Answered:
        """Do one thing on the local network."""
        keyset = self.hub.ask("GET", "/api/v1/cdm").json[keys]
        publish, subscribe = keyset["publishKey"], keyset["subscribeKey"]
        path = {
            "publish": f"/publish/{publish}/{subscribe}/0/{channel}/0/{quote(message, safe='')}",
            "signal": f"/signal/{publish}/{subscribe}/0/{channel}/0/{quote(message, safe='')}",
            "subscribe": f"/v2/subscribe/{subscribe}/{channel}/0",
            "history": f"/v3/history/sub-key/{subscribe}/channel/{channel}",
            "counts": f"/v3/history/sub-key/{subscribe}/message-counts/{channel}",
            "present": f"/v2/presence/sub-key/{subscribe}/channel/{channel}",
            "delete": f"/v3/history/sub-key/{subscribe}/channel/{channel}",
        }[act]
        query = {"uuid": user, "tt": "0", "timetoken": "1"} | ({"auth": grant} if grant else {})
        method = "DELETE" if act == "delete" else "GET"
        url = f"{self.hub.address.origin}{path}?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in query.items())
        answer = self.hub.pool.request(method, url, timeout=20.0)
        return Answered(answer.status, answer.data, answer.headers)


@contextmanager
def arena(folder: Path, **settings: Any) -> Iterator[Arena]:
    """Run a hub for probes."""
    with running_hub(folder, **settings) as caller:
        yield Arena(caller, folder)


class World:
    """One owner's agent with an instance, a running task, a waiting and a failed one, a file, a key: all his own."""

    def __init__(self, stage: Arena, key: str) -> None:
        self.hub, self.key = stage.hub, key
        self.agent = f"probed_{next(_numbers)}"
        card = {"streams": {"news": {"direction": "outbound", "format": "bytes", "affinity": "shared"}}}
        self.connected = self.hub.connect(self.agent, key=key, concurrency=2, card=card)
        self.instance = str(self.connected["accessToken"])
        self.instance_id = f"{self.agent}-1"
        self.login = self.hub.consumer(key)
        self.consumer = str(self.login["accessToken"])
        self.failed = self._ended()
        self.task = self.hub.submit(self.consumer, self.agent)
        #: The turn before the one that counts: its lease was good and was given back.
        self.older = self._claimed(self.task)
        self.hub.ask("POST", "/api/v1/reports", {**self.older, "events": [], "release": True}, bearer=self.instance)
        self.turn = self._claimed(self.task)
        self.lease = str(self.turn["lease"])
        self.upload = self._upload()
        self.file = self._stored()
        self.made = self.hub.ask("POST", "/api/v1/auth/keys", {"name": "made"}, bearer=key).json
        self.read_grant = self.hub.ask(
            "POST", "/api/v1/auth/task-read-token", {"taskId": self.task}, bearer=self.consumer
        ).json
        names = [{"taskId": self.task, "streamId": f"{self.task}-1", "handOut": True}]
        self.streams = self.hub.ask("POST", "/api/v1/streams/grants", {"streams": names}, bearer=self.instance).json

    @property
    def session(self) -> str:
        """The id of the consumer's session, which is his user id on the network."""
        return str(self.login["sessionChannel"].partition(".")[2])

    def report(self, **changed: Any) -> dict[str, Any]:
        """Return a report of the running task."""
        return {**self.turn, "events": [], **changed}

    def row(self) -> dict[str, Any]:
        """Return the running task as its owner sees it."""
        return dict(self.hub.ask("GET", f"/api/v1/tasks/{self.task}", bearer=self.consumer).json)

    def credentials(self) -> dict[str, str | None]:
        """Return everything that can be held, by kind."""
        stream = self.streams["streams"][0]
        return {
            "nothing": None,
            "key": self.key,
            "consumer": self.consumer,
            "instance": self.instance,
            "consumer refresh": self.login["refreshToken"],
            "instance refresh": self.connected["refreshToken"],
            "session grant": self.login["pamToken"],
            "control grant": self.connected["pamToken"],
            "task grant": self.read_grant["pamToken"],
            "stream grant": self.streams["token"],
            "handed out": stream["consumerToken"],
            "message key": self.connected["messageKey"],
            "lease": self.lease,
            "upload address": self.upload,
            "key id": self.made["id"],
        }

    def _claimed(self, task: str) -> dict[str, Any]:
        offers = self.hub.ask("POST", "/api/v1/heartbeats", {"free": 2}, bearer=self.instance).json["offers"]
        turn = {"taskId": task, "epoch": next(offer["epoch"] for offer in offers if offer["taskId"] == task)}
        return {**turn, "lease": self.hub.ask("POST", "/api/v1/claims", turn, bearer=self.instance).json["lease"]}

    def _ended(self) -> str:
        task = self.hub.submit(self.consumer, self.agent)
        outcome = {"state": "failed", "lastN": 0, "digest": "d" * 64}
        report = {**self._claimed_first(task), "events": [], "outcome": outcome}
        assert self.hub.ask("POST", "/api/v1/reports", report, bearer=self.instance).status == 200
        return task

    def _claimed_first(self, task: str) -> dict[str, Any]:
        self.hub.ask("POST", "/api/v1/heartbeats", {"free": 2}, bearer=self.instance)
        return self._claimed(task)

    def _upload(self) -> str:
        fields = {"role": "consumer-input", "agentName": self.agent, "fileSize": len(DATA), "fileName": "a.bin"}
        fields["sha256"] = hashlib.sha256(DATA).hexdigest()
        self.upload_body: Mapping[str, Any] = fields
        offer = self.hub.ask("POST", "/api/v1/files/request-upload", fields, bearer=self.consumer).json
        self.upload_id = str(offer["uploadId"])
        return str(offer["uploadUrl"].rpartition("/")[2])

    def _stored(self) -> str:
        offer = self.hub.ask("POST", "/api/v1/files/request-upload", dict(self.upload_body), bearer=self.consumer).json
        assert self.hub.ask("PUT", offer["uploadUrl"], DATA).status == 200
        return str(offer["uploadId"])
