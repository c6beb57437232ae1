"""The command `blocks`: a group whose commands are loaded when they are called."""

from __future__ import annotations

import difflib
import importlib

import click

from blocks_worker import __version__

_COMMANDS = {
    "agents": "blocks_worker.cli.agents:agents",
    "backup": "blocks_worker.cli.backup:backup",
    "cancel": "blocks_worker.cli.cancel:cancel",
    "check": "blocks_worker.cli.check:check",
    "dead": "blocks_worker.cli.dead:dead",
    "deploy": "blocks_worker.cli.deploy:deploy",
    "doctor": "blocks_worker.cli.doctor:doctor",
    "drain": "blocks_worker.cli.drain:drain",
    "instances": "blocks_worker.cli.instances:instances",
    "init": "blocks_worker.cli.init:init",
    "dev": "blocks_worker.cli.dev:dev",
    "keys": "blocks_worker.cli.keys:keys",
    "pause": "blocks_worker.cli.pause:pause",
    "purge": "blocks_worker.cli.purge:purge",
    "restore": "blocks_worker.cli.backup:restore",
    "resume": "blocks_worker.cli.pause:resume",
    "retry": "blocks_worker.cli.retry:retry",
    "run": "blocks_worker.cli.run:run",
    "send": "blocks_worker.cli.send:send",
    "task": "blocks_worker.cli.task:task",
    "tasks": "blocks_worker.cli.tasks:tasks",
    "top": "blocks_worker.cli.top:top",
    "watch": "blocks_worker.cli.watch:watch",
}


class _Commands(click.Group):
    """Import one command's file only: `blocks send` needs no worker."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, or None."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed; of one that there is not, say which was meant."""
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, _COMMANDS, n=1)
            ctx.fail(f"No such command {name!r}{f'; did you mean {near[0]}?' if near else '.'}")
        return super().resolve_command(ctx, args)


@click.command(cls=_Commands)
@click.version_option(__version__, prog_name="blocks")
def blocks() -> None:
    """Send tasks to agents and see what runs."""


def main() -> None:
    """Run `blocks`."""
    blocks.main(prog_name="blocks")
