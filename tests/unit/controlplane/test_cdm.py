"""The CDM document: read from a file or an address, and each lack named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from blocks_worker.controlplane.cdm import HOSTED_ORIGIN, fetch_cdm_config
from blocks_worker.errors import ConfigurationError, HubUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {"publishKey": "pub", "subscribeKey": "sub"}
WHOLE: dict[str, Any] = {
    "playground": KEYS,
    "network": {"publishKey": "pub-n", "subscribeKey": "sub-n"},
    "api": {"baseUrl": "https://hub.example", "clientId": "x"},
}


def document(folder: Path, **changes: Any) -> str:
    """Write a document and return its path."""
    path = folder / "cdm.json"
    path.write_text(json.dumps({name: value for name, value in {**WHOLE, **changes}.items() if value is not None}))
    return str(path)


def test_defaults(tmp_path: Path) -> None:
    """A document without our own keys means the hosted network and the hub at the API's address."""
    cdm = fetch_cdm_config(document(tmp_path))

    assert (cdm.transport, cdm.origin, cdm.hub_url) == ("pubnub", HOSTED_ORIGIN, "https://hub.example")
    assert (cdm.pubnub.hold, cdm.pubnub.retention_limit) == (280.0, 100)
    assert cdm.keyset("paid").subscribe_key == "sub-n"
    assert cdm.keyset("free").publish_key == "pub"


def test_api_may_be_absent_beside_a_hub(tmp_path: Path) -> None:
    """Where `hubUrl` is there, `api` need not be."""
    cdm = fetch_cdm_config(document(tmp_path, api=None, hubUrl="http://127.0.0.1:3001"))

    assert (cdm.api, cdm.hub_url) == (None, "http://127.0.0.1:3001")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"playground": None}, "playground"),
        ({"network": {"publishKey": "x"}}, r"network\.subscribeKey"),
        ({"api": None}, r"api\.baseUrl"),
        ({"origin": "http://far.example"}, "TLS"),
        ({"origin": "http://[half"}, "no origin"),
        ({"playground": 3}, "playground"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    """[4.8] A document that lacks something is a ValueError that names it."""
    with pytest.raises(ValueError, match=named):
        fetch_cdm_config(document(tmp_path, **changes))


def test_unreadable_places(tmp_path: Path) -> None:
    """No file, no JSON, and nobody at an address are told apart."""
    (tmp_path / "bad").write_text("{")
    for place in (tmp_path / "bad", tmp_path / "none"):
        with pytest.raises(ConfigurationError, match=place.name):
            fetch_cdm_config(str(place))
    with pytest.raises(HubUnavailableError):
        fetch_cdm_config("http://127.0.0.1:1/api/v1/cdm")


def test_without_an_address_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment says; a hub that nobody started is an error with its address."""
    monkeypatch.setenv("BLOCKS_CDM_URL", document(tmp_path))
    assert fetch_cdm_config().hub_url == "https://hub.example"
    monkeypatch.setenv("BLOCKS_CDM_URL", "")
    monkeypatch.setenv("BLOCKS_HUB_URL", "http://127.0.0.1:1/")
    with pytest.raises(HubUnavailableError, match=r"127\.0\.0\.1:1 "):
        fetch_cdm_config()
