"""Import path of a consumer's token."""

from blocks_worker.controlplane.consumer_auth import ConsumerAuth
from blocks_worker.controlplane.sources import TokenEndpointConfig, TokenResult
from blocks_worker.errors import AuthRefreshFailedError

__all__ = ["AuthRefreshFailedError", "ConsumerAuth", "TokenEndpointConfig", "TokenResult"]
