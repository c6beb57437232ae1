"""A loopback proxy of bytes before one port: it cuts, resets, delays and swallows, whatever is spoken.

What `support_proxy.py` does to single requests this does to the wire, WebSockets included. Bytes that a black hole
took arrive late, when it is healed, as they do when packets were lost and are sent again.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support import LoopThread
    from typing_extensions import Self

_PIECE = 65_536
#: Close by a reset: lingering for no time at all.
_RESET = struct.pack("ii", 1, 0)


class Wire:
    """Stand before one port of this machine; started and stopped as a context manager."""

    def __init__(self, port: int, loop: LoopThread) -> None:
        self._target = port
        self._loop = loop
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay = 0.0
        self._is_cut = False
        #: How many connections came.
        self.connections = 0

    @property
    def url(self) -> str:
        """The address to use in place of the port's."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._loop.run(self._start())
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.run(self._stop())

    # ------------------------------------------------------------------ faults
    def cut(self) -> None:
        """Break every connection, and each new one, until `heal`."""
        self._is_cut = True
        self._loop.call(self._break_all)

    def reset(self) -> None:
        """Reset every connection; new ones are served."""
        self._loop.call(self._break_all)

    def delay(self, seconds: float) -> None:
        """Hold each piece back so long, until `heal`."""
        self._delay = seconds

    def black_hole(self) -> None:
        """Let nothing through, in either direction, until `heal`."""
        self._loop.call(self._open.clear)

    def heal(self) -> None:
        """Let all through again."""
        self._is_cut, self._delay = False, 0.0
        self._loop.call(self._open.set)

    # ------------------------------------------------------------------ on the loop
    async def _start(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        # What was let in just now, and has not begun, ends by itself.
        self._is_cut = True
        self._break_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            if self._is_cut:
                return
            answers, there = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(there)
            pumps = [
                asyncio.ensure_future(self._pump(reader, there)),
                asyncio.ensure_future(self._pump(answers, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):  # it is cancelled by `_stop` alone
            return
        finally:
            self._writers -= {writer, there}  # type: ignore[arg-type]
            for one in (writer, there):
                if one is not None:
                    one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            await self._open.wait()
            if self._delay:
                await asyncio.sleep(self._delay)
            writer.write(piece)
            await writer.drain()

    def _break_all(self) -> None:
        for writer in list(self._writers):
            one = writer.get_extra_info("socket")
            if one is not None and one.fileno() >= 0:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
