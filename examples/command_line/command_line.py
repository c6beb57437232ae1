"""Runs a program, streams what it prints, and stops it on cancel."""

import shlex
import subprocess
import threading

from blocks_worker import InputError

ALLOWED = {"ping", "python", "seq", "sh"}


def handler(task, ctx):
    command = shlex.split(task.text())
    if not command or command[0] not in ALLOWED:
        raise InputError(f"send a command that begins with one of {', '.join(sorted(ALLOWED))}")
    stream = ctx.stream_or_none()
    lines = []
    for line in output_of(command, ctx):
        lines.append(line)
        if stream is not None:
            stream.write(line)
    return "".join(lines)


def output_of(command, ctx):
    """Yield the lines of a program as it prints them; a cancel of the task ends the program, and so the lines."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as program:

        def stop_on_cancel():
            while program.poll() is None:
                if ctx.wait(0.1):
                    program.terminate()
                    return

        threading.Thread(target=stop_on_cancel, daemon=True).start()
        yield from program.stdout
    if program.returncode and not ctx.is_cancelled:
        raise RuntimeError(f"{command[0]} ended with {program.returncode}")
