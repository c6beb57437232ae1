"""Import path of the task client."""

from blocks_worker.client.client import TaskClient
from blocks_worker.client.creating import create_task_client

__all__ = ["TaskClient", "create_task_client"]
