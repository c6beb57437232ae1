"""`blocks init`: a project that runs at once."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import click

from blocks_worker.cli.exits import Exit
from blocks_worker.cli.output import end_with
from blocks_worker.cli.scaffold import USUAL_AGENT, check_name, package_source, project_files, write_project
from blocks_worker.errors import ConfigurationError


@click.command()
@click.argument("name")
@click.option("--consumer", is_flag=True, help="Only a consumer, of an agent that is there.")
@click.option("--force", is_flag=True, help="Write into a folder that is not empty; files that are there stay.")
def init(*, name: str, consumer: bool, force: bool) -> None:
    """Write a project that runs at once.

    That is handler, card, consumer, tests and Dockerfile. NAME is its folder, new or empty, or "." for this one. The
    last part of the path is the project's name; the agent's is the same with "_" for "-".
    """
    folder = Path(name)
    if not name:
        end_with(Exit.FAILED, "the name is empty; write one, or '.' for this folder")
    try:
        files = project_files(
            check_name(folder.absolute().resolve().name),
            consumer_only=consumer,
            python=_typed("python"),
            source=package_source(),
        )
        written = write_project(folder, files, force=force)
    except ConfigurationError as error:
        end_with(Exit.FAILED, str(error))
    except OSError as error:
        end_with(Exit.FAILED, f"{folder} cannot be written: {error.strerror or error}; choose another place")
    for path in written.new:
        click.echo(f"wrote {folder / path}")
    for path in written.kept:
        click.echo(f"kept {folder / path}, which was there; remove it and run this again for a new one")
    for line in _next_steps(folder, consumer=consumer):
        click.echo(line)


def _next_steps(folder: Path, *, consumer: bool) -> list[str]:
    go = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    serve = f"{_typed('blocks')} run" + (f" --handler {USUAL_AGENT}" if consumer else "")
    return ["", "now type:", f"  {go}{serve}", "and in a second terminal:", f"  {go}{_typed('python')} consumer.py"]


def _typed(name: str) -> str:
    """Return how a program of this environment is typed: by its name where the shell finds just that one."""
    here = Path(sys.executable).parent
    found = shutil.which(name)
    if found is not None and here in {Path(found).parent, Path(found).resolve().parent}:
        return name
    return shlex.quote(str(here / name))
