"""What a browser does, without a window: send two tasks, follow the second, lose the line, and follow it again."""

import contextlib
import http.client
import json
import os
import urllib.request

ADDRESS = f"http://127.0.0.1:{os.environ.get('PORT', '8010')}"


def sent(text):
    with urllib.request.urlopen(f"{ADDRESS}/tasks", text.encode()) as answer:
        return answer.read().decode()


def blocks(answer):
    """Yield number, type and data of each block; of a comment only None."""
    fields = {}
    for line in answer:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "event" in fields:
            yield fields.get("id"), fields["event"], json.loads(fields["data"])
            fields = {}
        else:
            yield None, None, None
            fields = {}


def said(data):
    if "artifactRef" in data:
        return f"{data['artifactRef']['size']} bytes"
    return data.get("message") or data.get("state") or data.get("status")


def follow(task, seen, leave_at=""):
    """Read until the end, until an event of this type, or as long as the line holds; return the last type."""
    kind = ""
    with (
        urllib.request.urlopen(f"{ADDRESS}/tasks/{task}/events", timeout=10) as answer,
        contextlib.suppress(OSError, http.client.HTTPException),
    ):
        for number, kind, data in blocks(answer):
            if kind is None:
                print("silence, but the line is alive")
            elif kind == "state":
                print("state:", f"queued, waits for {data['waitsFor']}" if data["queued"] else data["state"])
            elif number not in seen:
                seen.add(number)
                print(f"{kind}:", said(data))
            if kind in (leave_at, "terminal", "closed"):
                break
    return kind


with urllib.request.urlopen(ADDRESS) as page:
    print("page:", page.headers["Content-Type"])
first, second = sent("3"), sent("2")
seen = set()
follow(second, seen, leave_at="progress")
print("the line is cut, the task goes on")
while follow(second, seen) not in ("terminal", "closed"):
    print("the stream ended without a last word: follow it again")
