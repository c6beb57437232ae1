"""Which release of this package runs."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def release() -> str:
    """Return the release, `0` when the package is not installed."""
    try:
        return version("blocks_worker")
    except PackageNotFoundError:
        return "0"
