"""Import path of the task client."""

from blocks_worker.client.client import TaskClient, create_task_client

__all__ = ["TaskClient", "create_task_client"]
