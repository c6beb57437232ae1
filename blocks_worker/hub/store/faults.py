"""Errors of the driver, which become ours here."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy.exc import DBAPIError

from blocks_worker.errors import StoreError


def ours(error: BaseException, otherwise: str) -> Any:
    """Return our error for a driver's, and any other error as it is."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, sqlite3.Error):
        return error
    text = str(cause)
    if "disk is full" in text:
        ours = StoreError("the ledger's disk is full: free some room", code="full")
    elif "locked" in text or "busy" in text:
        ours = StoreError("another program holds the ledger: try again", code="busy")
    else:
        ours = StoreError(f"the ledger failed: {text}", code=otherwise)
    ours.__cause__ = error
    return ours
