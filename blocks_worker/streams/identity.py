"""What names one stream."""

from __future__ import annotations

from dataclasses import dataclass

from blocks_worker.protocol.streams import up_channel


@dataclass(frozen=True)
class StreamIdentity:
    """Name one stream: its task, its id, the channel on which the agent speaks."""

    task_id: str
    stream_id: str
    channel: str

    @property
    def key(self) -> tuple[str, str]:
        """What a grant calls it."""
        return self.task_id, self.stream_id

    @property
    def up(self) -> str:
        """The channel on which its consumers speak."""
        return up_channel(self.channel)
