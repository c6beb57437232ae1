"""A user's token endpoint: a small HTTP server that trades a key at the hub, or answers what a test says."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class TokenEndpoint:
    """Answer each POST with what `give` returns, or with `status` when that is no success."""

    give: Callable[[], dict[str, Any]]
    url: str = ""
    status: int = 200
    #: Path, headers in lower case and body of each request.
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@contextmanager
def token_endpoint(give: Callable[[], dict[str, Any]]) -> Iterator[TokenEndpoint]:
    """Run an endpoint."""
    endpoint = TokenEndpoint(give)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            endpoint.asked.append((self.path, headers, body))
            status = endpoint.status
            answer = json.dumps(endpoint.give() if status == 200 else {"error": "no"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_port}/token?for=me"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()
