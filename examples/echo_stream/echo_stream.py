"""Says each word as it comes, and the whole text at the end; works without a stream too."""


def handler(task, ctx):
    text = task.text()
    stream = ctx.stream_or_none()
    for word in text.split():
        ctx.sleep(0.05)
        if stream is not None:
            stream.write(word)
    return text
