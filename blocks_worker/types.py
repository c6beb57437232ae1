"""Import path of the classes that handlers and consumers meet."""

from blocks_worker.client.events import TaskEvent
from blocks_worker.client.params import SendMessageParams
from blocks_worker.client.parts import SendMessageRequestPart
from blocks_worker.context.messages import (
    AgentInstancePresenceState,
    CancelTaskMessage,
    ControlMessage,
    ExpireTaskMessage,
    StartTaskMessage,
    parse_control_message,
)
from blocks_worker.context.task import TaskContext
from blocks_worker.protocol.events import ArtifactRef
from blocks_worker.protocol.parts import RequestPart
from blocks_worker.runtime.options import AgentInstanceOptions

__all__ = [
    "AgentInstanceOptions",
    "AgentInstancePresenceState",
    "ArtifactRef",
    "CancelTaskMessage",
    "ControlMessage",
    "ExpireTaskMessage",
    "RequestPart",
    "SendMessageParams",
    "SendMessageRequestPart",
    "StartTaskMessage",
    "TaskContext",
    "TaskEvent",
    "parse_control_message",
]
