"""The echo, for peers that import a task by its name."""

from __future__ import annotations


def echo(text: str) -> str:
    """Say back what came."""
    return text
