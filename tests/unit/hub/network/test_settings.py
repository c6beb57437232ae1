"""The defaults that clients are told of."""

from blocks_worker.hub.network.settings import MIB, NetworkSettings


def test_defaults() -> None:
    """Retention and hold are as documented: 100 messages, 20 minutes, 20 seconds, 12 MiB in all."""
    settings = NetworkSettings()

    assert settings.retention_bytes + settings.history_bytes == 12 * MIB
    assert (settings.retention_limit, settings.retention_age, settings.hold) == (100, 1200.0, 20.0)
