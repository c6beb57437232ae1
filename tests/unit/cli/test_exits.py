import pytest

from blocks_worker.cli.exits import exit_of_consumer, exit_of_worker
from blocks_worker.errors import AgentAuthFatalError, ConfigurationError, HubUnavailableError, RpcError


@pytest.mark.parametrize(
    ("error", "started", "expected"),
    [
        (AgentAuthFatalError("no", code="API_KEY_INVALID"), True, 77),
        (AgentAuthFatalError("no", code="API_KEY_INVALID"), False, 77),
        (AgentAuthFatalError("no", code="Superseded"), True, 78),
        (ConfigurationError("x"), True, 1),
        (RuntimeError("x"), False, 1),
        (RuntimeError("x"), True, 75),
    ],
)
def test_a_workers_end_has_its_code(error: Exception, started: bool, expected: int) -> None:
    """[2.13] Each kind of end has the code that a service manager acts on."""
    assert exit_of_worker(error, started=started) == expected


@pytest.mark.parametrize(
    ("error", "expected"), [(HubUnavailableError("u"), 4), (TimeoutError("t"), 3), (RpcError("r"), 1)]
)
def test_a_consumers_end_has_its_code(error: Exception, expected: int) -> None:
    """No hub, no end in time, and everything else are told apart."""
    assert exit_of_consumer(error) == expected
