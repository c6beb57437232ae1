"""Three ways in: an API key; an endpoint that hands out tokens; a function that returns them."""

import json
import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

from blocks_worker import TaskClient, TokenResult, fetch_cdm_config

KEY = os.environ.pop("BLOCKS_API_KEY")


def traded():
    """Trade the key for a token, as a back end does for programs that hold no key."""
    address = f"{fetch_cdm_config().hub_url}/api/v1/auth/agent/consumer-token"
    request = urllib.request.Request(address, json.dumps({"apiKey": KEY}).encode(), method="POST")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


class Endpoint(BaseHTTPRequestHandler):
    """The back end's endpoint: whoever has its cookie gets a token."""

    def do_POST(self):
        self.send_response(200 if self.headers["Cookie"] == "session=ada" else 401)
        self.end_headers()
        given = traded()
        self.wfile.write(json.dumps({name: given[name] for name in ("token", "expiresIn", "userId")}).encode())

    def log_message(self, *_):
        pass


def token():
    given = traded()
    return TokenResult(given["token"], expires_in=given["expiresIn"], user_id=given["userId"])


with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = {"url": f"http://127.0.0.1:{server.server_port}/token", "headers": {"Cookie": "session=ada"}}
    for name, way in {
        "key": {"api_key": KEY},
        "endpoint": {"token_endpoint": endpoint},
        "function": {"token_provider": token},
    }.items():
        with TaskClient.create("free", **way) as client:
            print(f"{name}:", client.get_user_id(), client.run("echo", "Hello").text)
    server.shutdown()
