"""The state folder of one user: secrets, the discovery file of the local hub, and the lock of who runs it.

Everything in it is private to its user: the folder is made 0700, each file 0600.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import ConfigurationError
from blocks_worker.processes import is_alive, keep_from_children
from blocks_worker.protocol.leases import Process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DISCOVERY = "hub.json"
#: What a hub keeps for the next one, ports among it.
KEPT = "hub-kept.json"
_LOCK = "hub.lock"
_LOCAL_KEY = "local-key"
#: Bytes of a secret; a shorter file is refused.
_SECRET_BYTES = 32
#: Different characters that a secret has at least: of 32 random bytes hardly any text has so few.
_CHARACTERS = 9


@dataclass(frozen=True)
class LocalHub:
    """Where the local hub is and which process runs it.

    Attributes:
        url: base address of the hub, such as ``http://127.0.0.1:3001``.
        origin: address of its local network.
    """

    url: str
    origin: str
    host: str
    pid: int
    started: str
    version: str

    @property
    def process(self) -> Process:
        """The process that runs the hub."""
        return Process(host=self.host, pid=self.pid, started=self.started)


def sync_folder(folder: Path) -> None:
    """Have the names of a folder on the disk: a file that was synced is lost all the same while its name is not."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class StateFolder:
    """Own the files by which the processes of one user find and trust each other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def prepare(self) -> None:
        """Make the folder when it is missing.

        Raises:
            ConfigurationError: it cannot be made, read or written.
        """
        try:
            if not self.path.is_dir():
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                sync_folder(self.path.parent)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise self._unusable(PermissionError("no right to read and write it"))

    def secret(self, name: str) -> bytes:
        """Return 32 random bytes, made at the first call and kept.

        Raises:
            ConfigurationError: as `text`, or the file holds something else.
        """
        return self._bytes_of(name, self.text(name, lambda: secrets.token_hex(_SECRET_BYTES)))

    def local_key(self) -> str:
        """Return the API key which all processes of this user share, made at the first call."""
        return self.text(_LOCAL_KEY, lambda: "bk_" + secrets.token_urlsafe(_SECRET_BYTES))

    def read_local_key(self) -> str | None:
        """Return the shared API key, or None when nobody made one."""
        return self._read_private(_LOCAL_KEY)

    def text(self, name: str, make: Callable[[], str]) -> str:
        """Return a secret text, made by `make` at the first call and kept in a file of its own.

        Raises:
            ConfigurationError: the file can be read by others, or is too short or too simple to be a secret.
        """
        self.prepare()
        kept = self._read_private(name)
        if kept is None:
            self._create(name, make())
            kept = self._read_private(name)
        self._check_length(name, kept or "")
        return kept or ""

    def check_secret(self, name: str) -> None:
        """Look at what `secret` would return; one that is not there yet is made by whoever needs it.

        Raises:
            ConfigurationError: as `secret`.
        """
        kept = self._read_private(name)
        if kept is not None:
            self._check_length(name, kept)
            self._bytes_of(name, kept)

    def announce(self, hub: LocalHub) -> None:
        """Tell the other processes of this user where the hub is."""
        self.save_json(_DISCOVERY, asdict(hub))

    def withdraw(self) -> None:
        """Take the announcement back."""
        (self.path / _DISCOVERY).unlink(missing_ok=True)

    def discovered(self) -> LocalHub | None:
        """Return the local hub that runs, or None when there is none or its process is gone."""
        try:
            hub = LocalHub(**self.load_json(_DISCOVERY))
        except TypeError:
            return None
        return None if is_alive(hub.process) is False else hub

    def held_by(self) -> str:
        """Say in brackets who runs the local hub, as far as that is known; for the end of a sentence."""
        hub = self.discovered()
        known = f"process {hub.pid}; " if hub is not None else ""
        return f"({known}a worker may have it inside)"

    def kept_port(self, of: str) -> int:
        """Return the port that a start here would take again for ``hub`` or ``network``; 0 when there is none."""
        port = self.load_json(KEPT).get(f"{of}_port")
        return port if isinstance(port, int) and 0 < port < 2**16 else 0

    def load_json(self, name: str) -> dict[str, Any]:
        """Return what `save_json` kept, or an empty dict."""
        text = self._read(name)
        try:
            kept = json.loads(text) if text else {}
        except (ValueError, RecursionError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def private_json(self, name: str) -> dict[str, Any] | None:
        """Return what `save_json` kept of secrets; None where nothing was, an empty dict for what is none.

        Raises:
            ConfigurationError: the file can be read by others.
        """
        return None if self._read_private(name) is None else self.load_json(name)

    def save_json(self, name: str, content: dict[str, Any]) -> None:
        """Keep a small dict: the file is replaced whole, so that a reader never sees half of it."""
        self.prepare()
        draft = self.path / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            self._write(draft, json.dumps(content), os.O_EXCL)
            draft.replace(self.path / name)
            sync_folder(self.path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise self._unusable(error) from error

    def try_lock(self) -> bool:
        """Take the lock of this folder, which its holder keeps until `unlock` or death; tell whether it was free."""
        if self._lock is not None:
            return True
        self.prepare()
        try:
            handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._lock = handle
        keep_from_children(self)
        return True

    def unlock(self) -> None:
        """Give the lock back."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def leave_to_parent(self) -> list[int]:
        """Give up the lock: it belongs to the open file, which a forked child shares and may outlive us with."""
        lock, self._lock = self._lock, None
        return [] if lock is None else [lock]

    def _check_length(self, name: str, kept: str) -> None:
        if len(kept) < _SECRET_BYTES:
            raise ConfigurationError(f"{self.path / name} is too short to be a secret; delete it and start again")
        if len(set(kept)) < _CHARACTERS:
            raise ConfigurationError(f"{self.path / name} is too simple to be a secret; delete it and start again")

    def _bytes_of(self, name: str, kept: str) -> bytes:
        try:
            return bytes.fromhex(kept)
        except ValueError:
            text = f"{self.path / name} is no hexadecimal number, which the secret is; delete it and start again"
            raise ConfigurationError(text) from None

    def _create(self, name: str, text: str) -> None:
        """Write a secret once: of two who try together one wins, and both read the winner's."""
        draft = self.path / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            self._write(draft, text, os.O_EXCL)
            os.link(draft, self.path / name)
            sync_folder(self.path)
        except FileExistsError:
            pass
        except OSError as error:
            raise self._unusable(error) from error
        finally:
            draft.unlink(missing_ok=True)

    @staticmethod
    def _write(path: Path, text: str, flags: int) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _read(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(error) from error

    def _read_private(self, name: str) -> str | None:
        text = self._read(name)
        if text is not None and stat.S_IMODE((self.path / name).stat().st_mode) & 0o077:
            path = self.path / name
            raise ConfigurationError(
                f"{path} can be read by others; run 'chmod 600 {path}', or delete it to get a new one"
            )
        return text

    def _unusable(self, error: Exception) -> ConfigurationError:
        cure = "mend its rights, or name another one in BLOCKS_STATE_DIR"
        return ConfigurationError(f"the state folder {self.path} cannot be used ({error}); {cure}")
