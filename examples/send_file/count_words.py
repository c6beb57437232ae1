"""A file in, two files out."""

from collections import Counter
from pathlib import Path


def handler(task, ctx):
    part = task.part("book")
    words = ctx.download_input_artifact(part).decode().lower().split()
    ctx.report_status(f"{len(words)} words in {part.artifact_ref.file_name}")
    table = Path("words.csv")
    table.write_text("".join(f"{word},{count}\n" for word, count in Counter(words).most_common()))
    return {"artifacts": [table, {"data": {"words": len(words)}, "fileName": "summary.json"}]}
