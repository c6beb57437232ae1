"""How a writer cuts and bundles: as told, as its surroundings ask for, and over a transport that carries bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blocks_worker.protocol.chunks import FILLED
from blocks_worker.streams.packing import BUNDLE

if TYPE_CHECKING:
    from blocks_worker.config import StreamConfig

#: Bytes of a frame as it travels, unless told otherwise.
FRAME = 16_384


@dataclass(frozen=True)
class WriterOptions:
    """Say how a writer cuts and bundles.

    Args:
        frame_bytes: most bytes of a frame as it travels.
        bundle_bytes: a frame with as many bytes takes nothing more.
        ends: it says so on the wire when it ends; one that many tasks share does not.
        raw_bytes: most bytes of content of a frame that carries it as it is, in place of JSON; 0: there is none.
    """

    frame_bytes: int = FRAME
    bundle_bytes: int = BUNDLE
    ends: bool = True
    raw_bytes: int = 0

    def __post_init__(self) -> None:
        """Refuse what no frame can be compared with: it would show on the thread that sends, where nobody looks."""
        if not isinstance(self.bundle_bytes, int):
            raise TypeError(f"bundle_size_bytes is a whole number of bytes, not {self.bundle_bytes!r}")


#: What a writer does that was told nothing.
USUAL = WriterOptions()


def over_link(options: WriterOptions) -> WriterOptions:
    """Return the options for a transport that carries bytes as they are; a size that somebody chose holds there too."""
    return replace(options, raw_bytes=FILLED if options.frame_bytes == FRAME else options.frame_bytes)


def writer_options(config: StreamConfig) -> WriterOptions:
    """Return the options that the surroundings ask for."""
    return WriterOptions(frame_bytes=config.frame_bytes, bundle_bytes=config.bundle_bytes)
