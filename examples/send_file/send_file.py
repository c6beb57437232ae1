"""Send a file, wait, save what comes back."""

from pathlib import Path

from blocks_worker import TaskClient, file_part

book = Path("book.txt")
book.write_text("the sea is the sea and the land is not " * 2_000)

with TaskClient.create("free") as client:
    part = file_part(book, part_id="book", content_type="text/plain")
    with client.send_message("count_words", [part]) as session:
        session.wait_for_terminal(timeout=30)
        for path in session.save_artifacts("artifacts"):
            print(path, path.read_text().splitlines()[0])
