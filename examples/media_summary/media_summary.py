"""Has a model of this machine listen to a recording, and gives back what was heard, and when."""

import json
import os
import urllib.error
import urllib.request
import uuid

from blocks_worker import InputError

READS = ("audio/wav", "audio/x-wav", "audio/vnd.wave", "audio/mpeg", "audio/mp4", "audio/ogg", "audio/flac")


class NotReadyError(Exception):
    """The model server cannot answer now: it is still loading, or busy, or not there yet."""


def handler(task, ctx):
    part = task.part("file")
    if part.mime_type not in READS:
        raise InputError(f"send a recording that is one of {', '.join(READS)}, not {part.mime_type}")
    name = part.artifact_ref.file_name
    recording = ctx.download_input_artifact(part)
    for attempt in ctx.retrying(tries=5, pause=0.5, on=NotReadyError):
        with attempt:
            ctx.report_status(f"attempt {attempt.number}: the model listens to {name}")
            heard = transcription(name, part.mime_type, recording, timeout=ctx.remaining())
    text = summary(name, heard)
    return {"artifacts": [{"data": text, "mimeType": "text/markdown", "fileName": "summary.md", "outputId": "summary"}]}


def summary(name, heard):
    """Return as Markdown how long it is, and a line for each segment."""
    segments = heard.get("segments") or [{"start": 0, "end": heard.get("duration", 0), "text": heard["text"]}]
    lines = [f"- {clock(each['start'])} to {clock(each['end'])}: {each['text'].strip()}" for each in segments]
    return "\n".join([f"# {name}, {clock(max(each['end'] for each in segments))}", "", *lines])


def clock(seconds):
    minutes, seconds = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{seconds:04.1f}"


def transcription(name, mime_type, recording, timeout):
    """Ask as the servers of whisper.cpp, speaches and vLLM want it, a recording as a form's file; return their JSON."""
    address = os.environ.get("BASE_URL", "http://127.0.0.1:8000/v1")
    fields = {"model": os.environ.get("MODEL", "whisper-1"), "response_format": "verbose_json"}
    boundary = uuid.uuid4().hex
    form = [f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{fields[key]}\r\n' for key in fields]
    form += [f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted(name)}"\r\n']
    form += [f"Content-Type: {mime_type}\r\n\r\n"]
    body = "".join(form).encode() + recording + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{address}/audio/transcriptions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            said = f"the model server answered {error.code}: {error.read(1000).decode(errors='replace')}"
        if error.code in (429, 503):
            raise NotReadyError(said) from None
        raise (InputError if error.code in (400, 413, 415, 422) else RuntimeError)(said) from None
    except OSError as error:
        raise NotReadyError(f"no model server answers at {address} (BASE_URL): {error}") from error


def quoted(name):
    """Return a name that stays within its quotes."""
    return "".join(char if char.isprintable() and char not in '"\\' else "_" for char in name or "recording")
