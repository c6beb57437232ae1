"""For users' own tests: call one handler as a worker does, or run hub, workers and client in this process."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blocks_worker.testing.faults import StackFaults
    from blocks_worker.testing.handler_run import HandlerRun, run_handler
    from blocks_worker.testing.stack import LocalStack

#: Where each name lives. Test runners load the plugin beside this file: it must cost nothing when nobody uses it.
_HOMES = {"HandlerRun": "handler_run", "LocalStack": "stack", "StackFaults": "faults", "run_handler": "handler_run"}

__all__ = ["HandlerRun", "LocalStack", "StackFaults", "run_handler"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'blocks_worker.testing' has no attribute {name!r}")
    value = getattr(import_module(f"blocks_worker.testing.{home}"), name)
    globals()[name] = value
    return value
