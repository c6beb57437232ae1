"""A client made from the surroundings of a script: its `.env`, its environment, its working folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks_worker.client.client import TaskClient
from blocks_worker.client.opening import check_key
from blocks_worker.env_file import load_dotenv

if TYPE_CHECKING:
    from blocks_worker.controlplane.sources import TokenEndpointConfig, TokenProvider

_logger = logging.getLogger(__name__)


def create_task_client(
    billing_mode: str | Mapping[str, Any] | None = None,
    *,
    env: str | None = None,
    api_key: str | None = None,
    token_endpoint: str | TokenEndpointConfig | None = None,
    token_provider: TokenProvider | None = None,
    **more: Any,
) -> TaskClient:
    """Return a client made from the surroundings: takes ``.env`` in, and the key from ``BLOCKS_API_KEY``.

    The billing mode is ``free`` unless told. A dict in its place is taken as the keywords.

    Raises:
        KeyError: there are no credentials, and the hub is not on this machine.
        TypeError: `TaskClient.create` knows no such keyword.
    """
    if isinstance(billing_mode, Mapping):
        said = {"env": env, "api_key": api_key, "token_endpoint": token_endpoint, "token_provider": token_provider}
        besides = {name: value for name, value in said.items() if value is not None}
        return create_task_client(**{**billing_mode, **besides, **more})
    for line in load_dotenv(Path.cwd()):
        _logger.warning("env_line_unread", extra={"place": line})
    mode = "free" if billing_mode is None and env is None else billing_mode
    if api_key is None and token_endpoint is None and token_provider is None:
        check_key(more)
    return TaskClient.create(
        mode, env=env, api_key=api_key, token_endpoint=token_endpoint, token_provider=token_provider, **more
    )
