"""Run the worker of one product: `python -m peers.worker NAME`; where its tasks are stands in the environment."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    importlib.import_module(f"peers.{sys.argv[1]}").work()
