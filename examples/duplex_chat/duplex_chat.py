"""Both sides write and read in one pipe, until the consumer says goodbye."""


def handler(task, ctx):
    heard = []
    with ctx.create_stream() as chat:
        chat.write(f"Hello {task.text()}, what is it?")
        for said in chat.events():
            if said == "bye":
                break
            heard.append(said)
            chat.write(f"{said}? Tell me more.")
        chat.write("Goodbye.")
    ctx.publish_artifact(f"{len(heard)} things were said", file_name="minutes.txt")
