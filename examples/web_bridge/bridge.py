"""A web application between browsers and agents: a page, a way to send, and a task's events as they come."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from blocks_worker import RpcError

PAGE = Path(__file__).with_name("page.html")
LONGEST = 64 * 1024


async def page(request):
    return FileResponse(PAGE)


class Bridge:
    """Serves the tasks of a client.

    Silence of `keep_alive` seconds is filled with a comment. Each browser that follows a task takes a thread, which
    waits for the next event: beyond `most` they are refused.
    """

    def __init__(self, client, keep_alive=15, most=64):
        self.client = client
        self.keep_alive = keep_alive
        self.most = most
        self.threads = ThreadPoolExecutor(most, thread_name_prefix="reader")
        self.taken = 0
        self.open = set()
        send = Route("/tasks", self.send, methods=["POST"])
        self.app = Starlette(routes=[Route("/", page), send, Route("/tasks/{task_id}/events", self.events)])

    def close(self):
        """End what is followed, and tell each browser so."""
        for session in list(self.open):
            session.close()

    async def send(self, request):
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > LONGEST:
                return PlainTextResponse(f"a text has at most {LONGEST} bytes", 413)
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return PlainTextResponse("a text is UTF-8", 400)
        session = await asyncio.to_thread(self.client.send_message, "steps", text)
        session.close()
        return PlainTextResponse(session.task_id, 201)

    async def events(self, request):
        if self.taken >= self.most:
            return PlainTextResponse(f"{self.most} tasks are followed already; try again later", 503)
        # Before the wait: others come meanwhile.
        self.taken += 1
        session = None
        try:
            session = await asyncio.to_thread(self.client.connect, request.path_params["task_id"])
        except RpcError as error:
            return PlainTextResponse(error.rpc_message, 404)
        finally:
            if session is None:
                self.taken -= 1
        return EventStream(self, session)


class EventStream(StreamingResponse):
    """A task's events, as long as the browser is there; then the session is closed, which wakes who waits for it."""

    media_type = "text/event-stream"

    def __init__(self, bridge, session):
        super().__init__(self.blocks(), headers={"Cache-Control": "no-store"})
        self.bridge = bridge
        self.session = session

    async def __call__(self, scope, receive, send):
        self.bridge.open.add(self.session)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.session.close()
            self.bridge.open.discard(self.session)
            self.bridge.taken -= 1

    async def blocks(self):
        loop = asyncio.get_running_loop()
        blocks = self.session.sse(keep_alive=self.bridge.keep_alive)
        while text := await loop.run_in_executor(self.bridge.threads, next, blocks, ""):
            yield text
