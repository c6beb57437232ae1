"""Text in, text out."""


def handler(task):
    return f"You said: {task.text()}"
