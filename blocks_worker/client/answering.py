"""Answer the question of a task, once, however often the answer has to be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from blocks_worker.client.repeating import one_try
from blocks_worker.errors import RpcError
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.tasks import AnswerTask

if TYPE_CHECKING:
    from blocks_worker.client.pausing import Patience
    from blocks_worker.concurrency import Deadline
    from blocks_worker.controlplane.api import HubApi

#: The word by which the hub says that a task asks nothing, or something else.
NOT_ASKED = "NotAsked"


def answered(
    api: HubApi, task_id: str, value: Any, ask_id: str | None, *, deadline: Deadline, patiently: Patience
) -> str:
    """Answer this question of a task, or the one that is open; return the state of the task as it is then.

    A repeat whose first try was taken in is told the same.
    """
    data = msgspec.Raw(encode(value))
    if ask_id is None:
        row = patiently(lambda: api.get_task(task_id), deadline)
        if row.question is None:
            text = f"task {task_id} asks nothing: it is {row.state}"
            raise RpcError(text, code=NOT_ASKED, status=409, data={"state": row.state})
        ask_id = row.question.ask_id
    answer = AnswerTask(ask_id=ask_id, value=data)
    return patiently(lambda: api.answer_task(task_id, answer, timeout=one_try(deadline)), deadline).state
