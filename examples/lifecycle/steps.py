"""Does one step after another, waits while it is paused, and stops when it is told."""


def handler(task, ctx):
    steps = int(task.text())
    for step in range(1, steps + 1):
        if ctx.is_paused:
            ctx.wait_while_paused()
        if ctx.wait(0.2):
            return f"stopped after {step - 1}"
        ctx.report_progress(step / steps, f"step {step}")
    return f"did {steps}"
