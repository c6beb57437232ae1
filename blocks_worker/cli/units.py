"""The units of systemd: one text for those that are shipped and for those that `blocks deploy` writes."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.cli.exits import Exit
from blocks_worker.config import CREDENTIAL
from blocks_worker.errors import ConfigurationError
from blocks_worker.observability.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Where settings and keys of services stand on a machine.
SETTINGS = "/etc/blocks-worker"
#: Seconds that a worker gets beyond its drain: grace for handlers, last reports, closing.
BEYOND_DRAIN = 15
#: What another start would not change: configuration, command line, credential refused, superseded.
_FINAL = " ".join(str(int(code)) for code in (Exit.FAILED, Exit.USAGE, Exit.REFUSED, Exit.SUPERSEDED))

#: The name of a service, which names files too, and that of a user.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
#: The hub's own.
_RESERVED = "blocks-hub"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

_LIFE = f"""\
# It says when it is ready, how it stands, and that it gets on: silence for 30 s means that it hangs.
Type=notify
NotifyAccess=main
WatchdogSec=30
KillMode=mixed
Restart=always
RestartSec=1
# Configuration, command line, credential refused, superseded: another start would change nothing.
RestartPreventExitStatus={_FINAL}
"""

_WALLS = """\
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome={home}
PrivateTmp={tmp}
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
{proc}RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
{memory}MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=
LimitNOFILE=65536
TasksMax=4096
OOMPolicy=stop
"""

_WORKER = """\
{head}
[Unit]
Description=blocks_worker agent {name}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
{life}# While its hub is away it goes on trying, and that is no failed start.
TimeoutStartSec=infinity
# SIGTERM drains: --drain-timeout, and {beyond} s for the rest.
TimeoutStopSec={stop}

EnvironmentFile={settings}/{name}.env
# The API key: read by the service alone, never in its environment.
LoadCredential={credential}:{settings}/{name}.key
{user}
StateDirectory=blocks-worker/{name}
StateDirectoryMode=0700
Environment=BLOCKS_STATE_DIR=%S/blocks-worker/{name}
WorkingDirectory={folder}
ExecStart={start}

{walls}
[Install]
WantedBy=multi-user.target
"""

_HUB = """\
# The hub of a machine and its local network, on loopback: systemctl enable --now blocks-hub
# Other ports stand in {settings}/blocks-hub.env as HUB_PORT and NETWORK_PORT. For other machines give it an address and
# a certificate (--host, --tls-cert, --tls-key), and take the two lines about IPAddress out.
[Unit]
Description=blocks_worker hub
After=network.target
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
{life}# A large ledger is checked and brought up before it is ready, which takes as long as it takes.
TimeoutStartSec=infinity
TimeoutStopSec=25

Environment=HUB_PORT=3001
Environment=NETWORK_PORT=0
EnvironmentFile=-{settings}/blocks-hub.env
DynamicUser=yes
StateDirectory=blocks-hub
StateDirectoryMode=0700
WorkingDirectory=%S/blocks-hub
ExecStart={start}

{walls}IPAddressDeny=any
IPAddressAllow=localhost

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, kw_only=True)
class WorkerUnit:
    """What a unit of a worker differs in.

    Attributes:
        name: of the agent, in names of files too.
        command: program and arguments; the drain timeout is added.
        folder: where it works; None: its state folder.
        user: who runs it; None: a user that systemd makes for it.
        sees_homes: what it runs lies below a home.
        sees_tmp: it lies in a folder for temporary files.
    """

    name: str
    command: Sequence[str]
    folder: Path | None = None
    drain: int = 60
    user: str | None = None
    sees_homes: bool = False
    sees_tmp: bool = False
    head: str = ""

    def text(self) -> str:
        """Return the file's text.

        Raises:
            ConfigurationError: a text in it would be read as something else.
        """
        state = f"%S/blocks-worker/{self.name}"
        return _WORKER.format(
            head=self.head
            or f"# The agent {self.name}, as 'blocks deploy --systemd' found it in {escaped(self.folder)}.",
            name=self.name,
            life=_LIFE,
            beyond=BEYOND_DRAIN,
            stop=self.drain + BEYOND_DRAIN,
            settings=SETTINGS,
            credential=CREDENTIAL,
            user="DynamicUser=yes" if self.user is None else f"User={_user(self.user)}",
            folder=state if self.folder is None else escaped(self.folder),
            start=started([*self.command, "--drain-timeout", str(self.drain), "--log-format", "json"]),
            walls=_WALLS.format(
                tmp="no" if self.sees_tmp else "yes",
                home="read-only" if self.sees_homes else "yes",
                proc="ProtectProc=invisible\n",
                memory="# Take this out for handlers that make code while they run: numba, some of PyTorch, LuaJIT.\n",
            ),
        )


def hub_unit(program: str) -> str:
    """Return the text of the hub's unit."""
    seen = "# Not ProtectProc=invisible: it looks whether workers of other users live.\n"
    walls = _WALLS.format(tmp="yes", home="yes", proc=seen, memory="")
    # Not quoted: systemd fills the variables in.
    line = f"{started([program])} --port ${{HUB_PORT}} --network-port ${{NETWORK_PORT}} --state-dir %S/blocks-hub"
    return _HUB.format(settings=SETTINGS, life=_LIFE, start=f"{line} --log-format json", walls=walls)


def shipped() -> dict[str, str]:
    """Return the units that are shipped in deploy/systemd, by their names."""
    head = (
        "# One agent a unit: systemctl enable --now blocks-worker@echo\n"
        f"# Settings stand in {SETTINGS}/echo.env, at least BLOCKS_CDM_URL, the API key alone in {SETTINGS}/echo.key,\n"
        "# both with mode 0600. 'blocks deploy --systemd' writes units for the agents of a folder."
    )
    command = ("/opt/blocks-worker/bin/blocks-run", "--no-local", "--handler", "%i")
    # The specifier for the instance is the one word that is not to be escaped.
    worker = WorkerUnit(name="%i", command=command, head=head).text().replace("%%i", "%i")
    return {"blocks-worker@.service": worker, "blocks-hub.service": hub_unit("/opt/blocks-worker/bin/blocks-hub")}


def started(words: Sequence[str]) -> str:
    """Return a command line as systemd reads it: words in quotes where needed, nothing in them filled in."""
    return " ".join(shlex.quote(escaped(word).replace("$", "$$")) for word in words)


def escaped(text: object) -> str:
    """Return text in which systemd fills nothing in.

    Raises:
        ConfigurationError: it cannot be written there: it would end its line, or be joined with the next.
    """
    said = str(text)
    if not _is_plain(said):
        raise ConfigurationError(
            f"{said!r} cannot stand in a unit: it has a line break, another control character or a backslash, or a "
            "space at an end; give it another name"
        )
    return said.replace("%", "%%")


def settings(name: str, address: str, needed: Sequence[str]) -> str:
    """Return the text of the file of settings of a service, with the variables that its handler needs.

    Raises:
        ConfigurationError: a text in it would be read as something else, or the address holds a secret.
    """
    if not _is_plain(address) or {*address} & {'"', "'"} or redact(address) != address:
        raise ConfigurationError(
            f"the hub's address {redact(address)!r} cannot stand in a file of settings: it holds a secret, "
            "a quote, a backslash or a control character; set BLOCKS_CDM_URL to one without"
        )
    wrong = next((one for one in needed if not _VARIABLE.match(one)), None)
    if wrong is not None:
        raise ConfigurationError(f"requiresEnv: {wrong!r} is no name of a variable; mend it in registry.json")
    lines = [
        f"# Settings of the agent {name}; the API key stands alone in {SETTINGS}/{name}.key.",
        f"BLOCKS_CDM_URL={address}",
        "#LOG_LEVEL=info",
        *(f"# needed by its handler:\n#{one}=" for one in needed),
    ]
    return "\n".join(lines) + "\n"


def checked_name(name: str) -> str:
    """Return the name of a service.

    Raises:
        ConfigurationError: it cannot be one, or is the hub's.
    """
    if not _NAME.match(name):
        raise ConfigurationError(f"--name {name!r} is no name of a service: letters, digits, _ . and -")
    if name == _RESERVED:
        raise ConfigurationError(f"--name {name!r} is the name of the hub's service; choose another")
    return name


def _is_plain(text: str) -> bool:
    """Tell whether the text stays on its line, and is all that is read there."""
    return text.isprintable() and "\\" not in text and text == text.strip()


def _user(name: str) -> str:
    if not _NAME.match(name):
        raise ConfigurationError(f"{name!r} is no name of a user; name who runs the service with --user")
    return name
