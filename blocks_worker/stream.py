"""Import path of what consumers need to read and write streams."""

from blocks_worker.client.streams import StreamClient, StreamDescriptor, StreamRef
from blocks_worker.errors import StreamUnavailableError
from blocks_worker.protocol.streams import invert_direction
from blocks_worker.streams.reader import InboundMessage
from blocks_worker.streams.trouble import StreamError

__all__ = [
    "InboundMessage",
    "StreamClient",
    "StreamDescriptor",
    "StreamError",
    "StreamRef",
    "StreamUnavailableError",
    "invert_direction",
]
