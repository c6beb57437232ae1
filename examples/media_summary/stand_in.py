"""A stand-in for a model server: it knows no words, but it does listen, and tells sound and silence apart."""

import array
import io
import itertools
import json
import math
import sys
import threading
import wave
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Seconds that are listened to at once.
WINDOW = 0.1
#: Decibels below the loudest that 16 bits hold: what is quieter counts as silence.
SILENCE = -50.0


@contextmanager
def model_server():
    """Serve on a free port for as long as the block lasts; give the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


class Model(BaseHTTPRequestHandler):
    """Answers transcriptions; the first time it is asked it has to load first, as such servers do."""

    requests = itertools.count(1)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/audio/transcriptions":
            self.answer(404, {"error": {"message": f"nothing is served at {self.path}"}})
        elif next(self.requests) == 1:
            self.answer(503, {"error": {"message": "the model is loading"}})
        else:
            try:
                self.answer(200, heard(file_of(body, self.headers.get_param("boundary"))))
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


def file_of(body, boundary):
    """Return the bytes of the file in a form."""
    for part in body.split(b"--" + str(boundary).encode()):
        head, _, content = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return content[:-2]
    raise ValueError("there is no file in the form")


def heard(data):
    """Return what a transcription returns: the length, and a segment wherever sound begins or ends."""
    levels, window, duration = loudness(data)
    segments, start = [], 0
    for is_sound, group in itertools.groupby(levels, lambda level: level > SILENCE):
        found = list(group)
        end = start + len(found)
        text = f"sound, {max(found):.0f} dB at its loudest" if is_sound else "silence"
        segments.append({"start": start * window, "end": min(end * window, duration), "text": text})
        start = end
    return {"duration": duration, "text": "; ".join(each["text"] for each in segments), "segments": segments}


def loudness(data):
    """Return how loud each window of a recording is, in decibels, and the seconds of a window and of the whole."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate, channels, width, length = (
                file.getframerate(),
                file.getnchannels(),
                file.getsampwidth(),
                file.getnframes(),
            )
            samples = array.array("h", file.readframes(length) if width == 2 else b"")
    except (EOFError, wave.Error, ZeroDivisionError, ValueError) as error:
        raise ValueError(f"this stand-in reads WAV only, and this is none: {error}") from None
    if not samples:
        raise ValueError("this stand-in reads recordings of 16 bits a sample, and of one sample at least")
    if sys.byteorder == "big":
        samples.byteswap()
    step = max(1, round(rate * WINDOW))
    windows = (samples[at : at + step * channels] for at in range(0, len(samples), step * channels))
    return [decibels(window) for window in windows], step / rate, len(samples) / channels / rate


def decibels(samples):
    mean = math.sqrt(sum(sample * sample for sample in samples) / len(samples))
    return 20 * math.log10(max(mean, 1) / 32768)
