"""The defaults that clients are told of."""

from blocks_worker.hub.network.settings import NetworkSettings


def test_defaults() -> None:
    """Retention and hold are as documented: 100 messages, 20 minutes, 20 seconds."""
    settings = NetworkSettings()

    assert (settings.retention_limit, settings.retention_age, settings.hold) == (100, 1200.0, 20.0)
