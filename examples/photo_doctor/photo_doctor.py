"""Has a model of this machine look at a photo, and gives back what it says of it."""

import base64
import json
import os
import urllib.error
import urllib.request

from blocks_worker import InputError

READS = ("image/png", "image/jpeg", "image/webp")
QUESTION = "What is wrong with this photo, and how is it mended? Answer in Markdown."


class NotReadyError(Exception):
    """The model server cannot answer now: it is still loading, or busy, or not there yet."""


def handler(task, ctx):
    part = task.part("file")
    if part.mime_type not in READS:
        raise InputError(f"send a photo that is one of {', '.join(READS)}, not {part.mime_type}")
    photo = ctx.download_input_artifact(part)
    for attempt in ctx.retrying(tries=5, pause=0.5, on=NotReadyError):
        with attempt:
            ctx.report_status(f"attempt {attempt.number}: the model looks at {part.artifact_ref.file_name}")
            advice = answer(part.mime_type, photo, timeout=ctx.remaining())
    return {"artifacts": [{"data": advice, "mimeType": "text/markdown", "fileName": "advice.md", "outputId": "advice"}]}


def answer(mime_type, photo, timeout):
    """Ask as the servers of ollama, llama.cpp and vLLM want it, a photo as a data URL; return the model's words."""
    address = os.environ.get("BASE_URL", "http://127.0.0.1:11434/v1")
    image = {"url": f"data:{mime_type};base64,{base64.b64encode(photo).decode()}"}
    content = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": image}]
    body = {"model": os.environ.get("MODEL", "llava"), "messages": [{"role": "user", "content": content}]}
    request = urllib.request.Request(
        f"{address}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        with error:
            said = f"the model server answered {error.code}: {error.read(1000).decode(errors='replace')}"
        if error.code in (429, 503):
            raise NotReadyError(said) from None
        raise (InputError if error.code in (400, 413, 415, 422) else RuntimeError)(said) from None
    except OSError as error:
        raise NotReadyError(f"no model server answers at {address} (BASE_URL): {error}") from error
