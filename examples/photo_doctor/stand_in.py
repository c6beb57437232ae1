"""A stand-in for a model server: no model, but it does look at the picture, and its answer depends on what it sees."""

import base64
import itertools
import json
import statistics
import struct
import threading
import zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Bytes a pixel, by the kind of picture: grey, colors, grey with opacity, colors with opacity.
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
#: Pixels: Python looks at each.
MOST = 1 << 22


@contextmanager
def model_server():
    """Serve on a free port for as long as the block lasts; give the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


class Model(BaseHTTPRequestHandler):
    """Answers chat completions; the first time it is asked it has to load first, as such servers do."""

    requests = itertools.count(1)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self.answer(404, {"error": {"message": f"nothing is served at {self.path}"}})
        elif next(self.requests) == 1:
            self.answer(503, {"error": {"message": "the model is loading"}})
        else:
            try:
                message = {"role": "assistant", "content": advice(picture_of(asked))}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                self.answer(200, {"object": "chat.completion", "model": asked["model"], "choices": [choice]})
            except ValueError as error:
                self.answer(400, {"error": {"message": str(error)}})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def picture_of(asked):
    """Return the bytes of the picture in a question."""
    for entry in asked["messages"][-1]["content"]:
        if entry["type"] == "image_url":
            return base64.b64decode(entry["image_url"]["url"].partition(";base64,")[2])
    raise ValueError("there is no picture in the question")


def advice(data):
    """Say what is to be said of a picture by its light."""
    width, height, levels = light(data)
    mean, contrast = statistics.fmean(levels), statistics.pstdev(levels)
    found = []
    if mean < 64:
        found.append("It is too dark: raise the exposure.")
    if mean > 192:
        found.append("It is too bright: lower the exposure.")
    if contrast < 16:
        found.append("It is flat: raise the contrast.")
    lines = [f"# A PNG of {width} x {height}", f"brightness {mean:.0f} of 255, contrast {contrast:.0f}", ""]
    return "\n".join([*lines, *(f"- {each}" for each in found or ["Nothing is wrong with its light."])])


def light(data):
    """Return width and height of a PNG, and how bright each of its pixels is, 0 to 255."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("this stand-in reads PNG only; a model server at BASE_URL reads more")
    try:
        pieces = list(chunks(data))
        width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", pieces[0][1])
        if depth != 8 or kind not in CHANNELS or interlaced or width * height > MOST:
            raise ValueError(f"this stand-in reads 8 bits a channel, no palette, no interlacing, {MOST} pixels at most")
        size = CHANNELS[kind]
        length = width * size
        whole = height * (length + 1)
        packed = zlib.decompressobj().decompress(b"".join(body for name, body in pieces if name == b"IDAT"), whole)
        colors = 3 if size >= 3 else 1
        levels = [
            sum(row[at : at + colors]) / colors for row in rows(packed, length, size) for at in range(0, length, size)
        ]
    except (LookupError, struct.error, zlib.error):
        raise ValueError("the PNG is damaged") from None
    if not levels or len(packed) != whole:
        raise ValueError("the PNG is damaged: pixels are missing")
    return width, height, levels


def chunks(data):
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += length + 12


def rows(packed, length, size):
    """Yield each row of pixels; a PNG keeps only how a byte differs from its neighbours left, above, or both."""
    above = bytes(length)
    for start in range(0, len(packed), length + 1):
        how, row = packed[start], bytearray(packed[start + 1 : start + 1 + length])
        for at in range(length):
            left, corner = (row[at - size], above[at - size]) if at >= size else (0, 0)
            row[at] = (
                row[at] + (0, left, above[at], (left + above[at]) // 2, nearest(left, above[at], corner))[how]
            ) & 255
        yield row
        above = row


def nearest(left, above, corner):
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))
