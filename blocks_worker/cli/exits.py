"""Exit codes: the one table of them."""

from __future__ import annotations

from enum import IntEnum

from blocks_worker.errors import AgentAuthFatalError, ConfigurationError, HubUnavailableError


class Exit(IntEnum):
    """What a program of ours ends with."""

    #: Drained, stopped, completed.
    OK = 0
    #: One line on standard error says what is wrong and what to do; of `blocks send`: the task did not complete.
    FAILED = 1
    #: The command line is wrong.
    USAGE = 2
    #: `blocks`: the task, or the instance that drains, did not end in time.
    TIMEOUT = 3
    #: `blocks`: no hub answers.
    NO_HUB = 4
    #: `blocks-run`, `blocks-hub`: something went wrong that a new start may mend.
    RESTART = 75
    #: `blocks-run`: the credential was refused.
    REFUSED = 77
    #: `blocks-run`: a newer instance of the same id took over. `blocks-hub`: another hub has the state folder.
    SUPERSEDED = 78
    #: A third signal, or Ctrl-C in `blocks`.
    INTERRUPTED = 130


def exit_of_worker(error: BaseException, *, started: bool) -> Exit:
    """Return the code for what ended a worker; `started`: it had begun to connect."""
    if isinstance(error, AgentAuthFatalError):
        return Exit.SUPERSEDED if error.code == "Superseded" else Exit.REFUSED
    if isinstance(error, ConfigurationError) or not started:
        return Exit.FAILED
    return Exit.RESTART


def exit_of_consumer(error: BaseException) -> Exit:
    """Return the code for what ended a command of `blocks`."""
    if isinstance(error, HubUnavailableError):
        return Exit.NO_HUB
    return Exit.TIMEOUT if isinstance(error, TimeoutError) else Exit.FAILED
