"""The agent: what it does with a task. `agent-card.json` names this file."""

from blocks_worker import StartTaskMessage, TaskContext


def handler(task: StartTaskMessage, ctx: TaskContext) -> str:
    """Greet each name of the text."""
    names = task.text().split()
    greetings: list[str] = []
    for name in names:
        # Stands for real work. When the task is cancelled it raises TaskCancelledError.
        ctx.sleep(0.2)
        greetings.append(f"Hello, {name}!")
        ctx.report_progress(len(greetings) / len(names), f"greeted {name}")
    return "\n".join(greetings)
