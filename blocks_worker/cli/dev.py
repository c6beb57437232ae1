"""`blocks dev`: a worker for a terminal, which starts anew when its code has changed.

The worker is a process of its own, as `blocks-run` starts it. The local hub, where it is to run here, stays in this
process meanwhile: what is sent between two workers waits for the next.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

import click

from blocks_worker.cli.access import errors_told
from blocks_worker.cli.choosing import configured
from blocks_worker.cli.exits import Exit
from blocks_worker.cli.findings import ERRORS
from blocks_worker.cli.flags import Flags
from blocks_worker.cli.output import counted, sentence
from blocks_worker.cli.run import run
from blocks_worker.cli.signals import Signals
from blocks_worker.cli.sources import sources_of
from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.config import bypass_proxy_on_loopback, environment
from blocks_worker.env_file import forget_dotenv
from blocks_worker.observability.redact import one_line
from blocks_worker.runtime.entry import HUB_STOP_TIMEOUT, enter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blocks_worker.cli.sources import Sources
    from blocks_worker.config import WorkerConfig
    from blocks_worker.runtime.local import LocalHubKeeper

#: Seconds between two looks at the files.
LOOK = 0.3
#: Looks for which a change waits for the next at most: an editor, or git, writes several files.
_MOST_LOOKS = 20
#: The working folder does not come before the libraries: a file of the user's may be called like one of them. Nothing
#: is compiled into files: two changes within a second would look the same there.
_COMMAND = (
    *(sys.executable, "-B", "-c"),
    "import sys; sys.path[:] = [one for one in sys.path if one]; from blocks_worker.cli.dev_child import main; main()",
)
#: Flags of `blocks-run` that this command has as well.
_TAKEN = (*("handlers", "registry", "card", "concurrency", "instance_id", "drain_timeout", "log_level", "no_local"),)


@click.command(params=[one for one in run.params if one.name in _TAKEN])
def dev(**given: Any) -> None:
    """Serve a handler while you write it: debug log, and a new worker whenever a file of it changes.

    Watched are the Python files below this folder and below those of registry and card, the registry, the cards and
    .env. What runs is finished first, by the old code. A worker that cannot start, for a syntax error say, says why
    and waits for the next change. Ctrl-C ends it as it ends blocks-run.
    """
    signals = Signals()
    signals.install()
    # Before `.env` is read here: the worker reads it anew, and what it would inherit would win.
    inherited = environment()
    config = _configured_at_last(given, inherited, signals)
    if config is None:
        raise SystemExit(int(Exit.OK))
    with errors_told():
        keeper = _hub(config)
        try:
            sources = sources_of(Path.cwd(), config.registry, given["card"], given["handlers"])
            code = Dev([*_COMMAND, *_arguments(given)], inherited, sources, signals).run()
        finally:
            if keeper is not None:
                keeper.stop(Deadline(HUB_STOP_TIMEOUT))
    raise SystemExit(code)


class Dev:
    """Run the worker, again after each change, until a signal ends it."""

    def __init__(
        self, command: Sequence[str], inherited: Mapping[str, str], sources: Sources, signals: Signals
    ) -> None:
        self._command = command
        self._inherited = inherited
        self._sources = sources
        self._signals = signals
        self._clock = Clock()
        self._is_ending = False

    def run(self) -> int:
        """Serve until a signal; return the exit code."""
        _say(f"watching {counted(len(self._sources), 'file')}; a change starts the worker anew")
        if self._sources.is_cut:
            _say("warning: there are more files, whose changes are not seen; start it in a smaller folder")
        while True:
            code = self._serve()
            if self._is_ending:
                return code
            self._sources_at_rest()

    def _serve(self) -> int:
        """Have one worker live; return its exit code, or 0 when a signal came while there was none."""
        # Its end of the pipe tells it when this process is gone.
        with subprocess.Popen(  # noqa: S603 - our own program
            self._command, env=self._inherited, stdin=subprocess.PIPE
        ) as worker:
            is_old = False
            while worker.poll() is None:
                name = self._signal()
                if name is not None:
                    self._is_ending = True
                    # A terminal told it already; it takes this one for the echo.
                    worker.terminate()
                elif not is_old and not self._is_ending:
                    is_old = self._tell_change("the worker finishes what it runs, then starts anew")
                    if is_old:
                        worker.terminate()
        if is_old or self._is_ending:
            return _code_of_asked(worker.returncode)
        _say(f"the worker ended with code {worker.returncode}; waiting for a change")
        self._is_ending = not self.has_changed()
        return int(Exit.OK)

    def has_changed(self) -> bool:
        """Wait for a change; tell whether it came before a signal."""
        while not self._tell_change("starting the worker anew"):
            if self._signal() is not None:
                return False
        return True

    def _signal(self) -> str | None:
        """Return the signal that came, waiting for one a little."""
        try:
            return self._signals.heard.get(timeout=LOOK)[0]
        except Empty:
            return None

    def _tell_change(self, then: str) -> bool:
        changed = self._sources.changed()
        if changed:
            here = Path.cwd()
            names = [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in changed]
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            _say(f"{names[0]}{more} changed: {then}")
        return bool(changed)

    def _sources_at_rest(self) -> None:
        """Wait until nothing is written any more; what is there then is what the next worker is made of."""
        for _ in range(_MOST_LOOKS):
            self._clock.pause(LOOK / 3)
            if not self._sources.changed():
                return


def _code_of_asked(code: int) -> int:
    """Return the exit code for a worker that was asked to end."""
    if code == -signal.SIGTERM:
        return int(Exit.OK)  # it had not begun yet, so nothing was left undone
    # One that another signal killed ends as a shell has it.
    return code if code >= 0 else 128 - code


def _configured_at_last(
    given: Mapping[str, Any], inherited: Mapping[str, str], signals: Signals
) -> WorkerConfig | None:
    """Return the configuration, once what is wrong in it was mended; None when a signal came before."""
    while True:
        # Before it is read: a change meanwhile is one.
        sources = sources_of(Path.cwd(), given["registry"], given["card"], given["handlers"])
        try:
            return configured(_flags(given))
        except ERRORS as error:
            _say(f"{sentence(error)}; waiting for a change")
        if not Dev((), inherited, sources, signals).has_changed():
            return None
        forget_dotenv(inherited)


def _hub(config: WorkerConfig) -> LocalHubKeeper | None:
    """Have the local hub run here, where nobody runs it and a worker would; nothing where the hub is elsewhere."""
    bypass_proxy_on_loopback()
    if not config.embedded_hub or not config.connection.is_local:
        return None
    return enter(config.connection, local_allowed=True, clock=Clock(), entropy=Entropy()).keeper


def _flags(given: Mapping[str, Any]) -> Flags:
    """Return the flags by which this process is configured: of the hub in it only trouble is told."""
    kept = {name: given[name] for name in ("registry", "card", "concurrency", "instance_id", "drain_timeout")}
    return Flags(
        handler=None,
        **kept,
        log_level=given["log_level"] or "warn",
        log_format="text",
        no_local=given["no_local"],
        check=False,
    )


def _arguments(given: Mapping[str, Any]) -> list[str]:
    """Return the command line of the worker."""
    found = ["--log-level", given["log_level"] or "debug", "--log-format", "text"]
    for handler in given["handlers"]:
        found += ["--handler", handler]
    for name in ("registry", "card", "concurrency", "instance_id", "drain_timeout"):
        if given[name] is not None:
            found += [f"--{name.replace('_', '-')}", str(given[name])]
    return [*found, "--no-local"] if given["no_local"] else found


def _say(text: str) -> None:
    click.echo(f"[dev] {one_line(text)}")
