"""The first moments of `blocks-run`: signals count before anything else is imported, which takes longest of all."""

from __future__ import annotations

from blocks_worker.cli.signals import Signals
from blocks_worker.observability.stacks import stacks_on_signal


def main() -> None:
    """Run `blocks-run`; until something is there that has to be taken down, a signal just ends it."""
    signals = Signals()
    signals.end_at_once()
    signals.install()
    stacks_on_signal(signals.want_stacks)
    from blocks_worker.cli.run import PROGRAM, run

    run.main(prog_name=PROGRAM, obj=signals)
