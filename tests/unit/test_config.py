import logging
import os
from pathlib import Path

import pytest

from blocks_worker.config import (
    client_config,
    connection,
    is_loopback_url,
    state_dir,
    stream_config,
    worker_config,
)
from blocks_worker.errors import ConfigurationError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENT_SHUTDOWN_GRACE_SEC", "soon"),
        ("AGENT_SHUTDOWN_GRACE_SEC", "nan"),
        ("ARTIFACT_INLINE_LIMIT_BYTES", "-1"),
        ("LOG_LEVEL", "loud"),
        ("BLOCKS_LOG_FORMAT", "xml"),
        ("BLOCKS_EMBEDDED_HUB", "maybe"),
        ("BLOCKS_HEALTH_PORT", "65536"),
        ("BLOCKS_HEALTH_PORT", "-1"),
        ("BLOCKS_HEALTH_PORT", "http"),
    ],
)
def test_a_bad_value_names_its_variable(name: str, value: str) -> None:
    """A variable that cannot be read is named in the error."""
    with pytest.raises(ConfigurationError, match=name):
        worker_config({name: value})


def test_nothing_set_is_local_mode() -> None:
    """With nothing configured the local hub is looked for and may be started."""
    config = worker_config({})

    assert config.connection.is_local
    assert config.connection.cdm_url is None
    assert config.embedded_hub
    assert config.drain_timeout == 60.0


@pytest.mark.parametrize(("value", "port"), [("", None), ("off", None), ("0", 0), ("9464", 9464)])
def test_the_health_port_is_off_unless_it_is_named(value: str, port: int | None) -> None:
    """[2.14] BLOCKS_HEALTH_PORT is off by default; 0 asks for any free port."""
    assert worker_config({"BLOCKS_HEALTH_PORT": value}).health_port == port


def test_a_hub_address_tells_the_document() -> None:
    """BLOCKS_HUB_URL is where the document is looked for when no address of it is given."""
    env = {"BLOCKS_HUB_URL": "https://hub.example/"}

    assert connection(env).cdm_url == "https://hub.example/api/v1/cdm"
    assert not connection(env).is_local


def test_the_key_is_not_in_the_repr() -> None:
    """A configuration can be printed without giving its key away. [G8]"""
    assert "canary" not in repr(connection({"BLOCKS_API_KEY": "bk_canary"}))


def test_the_key_comes_as_a_credential_of_the_service_manager(tmp_path: Path) -> None:
    """It is read from its file where the environment has none; a folder without it is no trouble."""
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert client_config(env).connection.api_key is None
    (tmp_path / "api-key").write_text("bk_of_a_file\n", encoding="utf-8")
    assert client_config(env).connection.api_key == "bk_of_a_file"
    assert client_config({**env, "BLOCKS_API_KEY": "bk_told"}).connection.api_key == "bk_told"


def test_a_credential_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A folder in its place is named."""
    (tmp_path / "api-key").mkdir()

    with pytest.raises(ConfigurationError, match="api-key cannot be read"):
        client_config({"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_a_watchdog_counts_for_its_process_only(env: dict[str, str], expected: float | None) -> None:
    """What is meant for another process, as that of the parent is, changes nothing here."""
    assert worker_config(env).watchdog == expected


def test_the_state_folder_follows_the_variable() -> None:
    """BLOCKS_STATE_DIR wins over XDG_STATE_HOME, which wins over the home folder."""
    assert state_dir({"BLOCKS_STATE_DIR": "/a/b"}) == Path("/a/b")
    assert state_dir({"XDG_STATE_HOME": "/x"}) == Path("/x/blocks_worker")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:3001/api/v1/cdm", True),
        ("http://127.9.9.9/", True),
        ("http://[::1]:3001/", True),
        ("http://10.0.0.1/", False),
        ("https://hub.example/", False),
        ("cdm.json", False),
    ],
)
def test_loopback_is_told_by_the_host(url: str, expected: bool) -> None:
    """Local mode is when the host is this machine."""
    assert is_loopback_url(url) is expected


def test_settings_of_streams_without_effect_are_checked_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """Each is one line for who looks closely; a bad value is an error that names the variable. [R-10]"""
    caplog.set_level(logging.DEBUG, "blocks_worker.config")
    config = stream_config({"STREAM_GATING": "false", "STREAM_MAX_LATENCY_MS": "10"})
    told = [record.__dict__["setting"] for record in caplog.records if record.msg == "setting_without_effect"]

    assert config == stream_config({})
    assert sorted(told) == ["STREAM_GATING", "STREAM_MAX_LATENCY_MS"]
    for name, wrong in (
        ("STREAM_GATING", "maybe"),
        ("STREAM_MAX_LATENCY_MS", "soon"),
        ("STREAM_BUNDLE_SIZE", "0"),
        ("STREAM_MAX_MESSAGE_SIZE", "1"),
    ):
        with pytest.raises(ConfigurationError, match=name):
            stream_config({name: wrong})


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("http://127.0.0.1:3001", "http://127.0.0.1:3001/api/v1/cdm"),
        ("https://hub.example/", "https://hub.example/api/v1/cdm"),
        ("https://hub.example/cdm.json", "https://hub.example/cdm.json"),
        ("https://hub.example?at=1", "https://hub.example?at=1"),
    ],
)
def test_the_bare_address_of_a_hub_means_its_document(told: str, meant: str) -> None:
    """BLOCKS_CDM_URL without a path is what people type first; with any path it is taken as it is."""
    assert client_config({"BLOCKS_CDM_URL": told, "BLOCKS_STATE_DIR": "/x"}).connection.cdm_url == meant
