"""Import path of the task session."""

from blocks_worker.client.session import TaskSession

__all__ = ["TaskSession"]
