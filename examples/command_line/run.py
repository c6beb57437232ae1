"""Run a program there: read what it prints, and stop it after the third line."""

from blocks_worker import TaskClient

with TaskClient.create("free") as client:
    print("whole:", client.run("command_line", "seq 3").text.split())

    with client.send_message("command_line", "sh -c 'while true; do echo again; sleep 0.1; done'") as session:
        for number, line in enumerate(session.wait_for_stream(timeout=30).open().as_file(), 1):
            print("line:", line.decode().rstrip())
            if number == 3:
                session.cancel("enough lines")
                break
        terminal = session.wait_for_terminal(timeout=30)
        print("terminal:", terminal.state, terminal.reason)
