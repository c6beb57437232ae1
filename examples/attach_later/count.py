"""Takes its time, and says how far it is."""


def handler(task, ctx):
    steps = int(task.text())
    for step in range(1, steps + 1):
        ctx.sleep(0.2)
        ctx.report_progress(step / steps, f"step {step}")
    return f"counted to {steps}"
