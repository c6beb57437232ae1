"""The built-in handler `echo`: says back what it was told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blocks_worker.context.messages import StartTaskMessage


def handler(task: StartTaskMessage) -> dict[str, Any]:
    """Echo the text of the first part that has text, else all parts as JSON."""
    text = task.text(default=None)
    said = json.dumps(task.request_parts, ensure_ascii=False) if text is None else text
    return {"artifacts": [{"data": f"Echoed request: {said}", "mimeType": "text/plain"}]}
