"""Turn a plain Python function into a network service.

The public names are resolved on first use, so that importing the package costs next to nothing.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from blocks_worker.observability.last_resort import LastResort

__version__ = "0.1.0"

if TYPE_CHECKING:
    from blocks_worker.artifacts import (
        BLOCKS_MAX_UPLOAD_BYTES,
        DownloadedArtifact,
        build_artifact_ref,
        decode_inline_artifact,
        download_artifact,
        should_inline_artifact,
    )
    from blocks_worker.client.callbacks import CallbackErrorContext
    from blocks_worker.client.client import TaskClient
    from blocks_worker.client.creating import create_task_client
    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.params import SendMessageParams
    from blocks_worker.client.parts import SendMessageRequestPart, file_part, json_part, text_part
    from blocks_worker.client.registry import AgentEntry, get_agent
    from blocks_worker.client.session import TaskSession
    from blocks_worker.client.streams import StreamRef
    from blocks_worker.client.subscribed import TaskEventCallbacks, TaskSubscription
    from blocks_worker.client.tasks import ListTasksParams, ListTasksResult, TaskInfo
    from blocks_worker.client.watching import subscribe_to_task
    from blocks_worker.config import DEFAULT_CDM_URL
    from blocks_worker.context.messages import ExpireTaskMessage, StartTaskMessage
    from blocks_worker.context.streams import ExternalStreamObject, OnActivateCallback, StreamObject
    from blocks_worker.context.task import TaskContext
    from blocks_worker.controlplane.agent_auth import AgentAuth
    from blocks_worker.controlplane.cache import CredentialCache
    from blocks_worker.controlplane.cdm import CdmApiConfig, CdmConfig, CdmKeyset, fetch_cdm_config
    from blocks_worker.controlplane.consumer_auth import ConsumerAuth
    from blocks_worker.controlplane.presigned import presigned_upload_flow
    from blocks_worker.controlplane.providers import AuthProvider
    from blocks_worker.controlplane.sources import TokenEndpointConfig, TokenResult
    from blocks_worker.errors import (
        AgentAuthFatalError,
        AnonTaskAccessDenied,
        AnonTaskAccessDeniedError,
        ArtifactError,
        AuthRefreshFailedError,
        BillingModeMismatchError,
        BlocksError,
        ConfigurationError,
        EventQuotaError,
        FileUploadError,
        HubUnavailableError,
        InputError,
        InvalidMessageError,
        QuotaExceededError,
        RpcError,
        SomeRefusedError,
        StepError,
        StreamUnavailableError,
        StreamWriteError,
        TaskCancelledError,
        TaskFailedError,
        TaskFinishedError,
        TransportError,
    )
    from blocks_worker.protocol.channels import task_channel
    from blocks_worker.protocol.events import ArtifactRef
    from blocks_worker.protocol.parts import RequestPart
    from blocks_worker.runtime.instance import AgentInstance, start_agent_instance
    from blocks_worker.runtime.options import AgentInstanceOptions
    from blocks_worker.streams.reader import InboundMessage
    from blocks_worker.streams.registry import StreamRegistry
    from blocks_worker.streams.trouble import StreamError
    from blocks_worker.transports.pubnub.channels import ChannelManager, create_channel_manager
    from blocks_worker.transports.pubnub.client import create_pubnub_client

#: Where each public name lives.
_HOMES = {
    "AgentAuth": "controlplane.agent_auth",
    "AgentAuthFatalError": "errors",
    "AgentEntry": "client.registry",
    "AgentInstance": "runtime.instance",
    "AgentInstanceOptions": "runtime.options",
    "AnonTaskAccessDenied": "errors",
    "AnonTaskAccessDeniedError": "errors",
    "ArtifactError": "errors",
    "ArtifactRef": "protocol.events",
    "AuthProvider": "controlplane.providers",
    "AuthRefreshFailedError": "errors",
    "BLOCKS_MAX_UPLOAD_BYTES": "artifacts",
    "BillingModeMismatchError": "errors",
    "BlocksError": "errors",
    "CallbackErrorContext": "client.callbacks",
    "CdmApiConfig": "controlplane.cdm",
    "CdmConfig": "controlplane.cdm",
    "CdmKeyset": "controlplane.cdm",
    "ChannelManager": "transports.pubnub.channels",
    "ConfigurationError": "errors",
    "ConsumerAuth": "controlplane.consumer_auth",
    "CredentialCache": "controlplane.cache",
    "DEFAULT_CDM_URL": "config",
    "DownloadedArtifact": "artifacts",
    "ExpireTaskMessage": "context.messages",
    "ExternalStreamObject": "context.streams",
    "FileUploadError": "errors",
    "HubUnavailableError": "errors",
    "InboundMessage": "streams.reader",
    "EventQuotaError": "errors",
    "InputError": "errors",
    "QuotaExceededError": "errors",
    "InvalidMessageError": "errors",
    "ListTasksParams": "client.tasks",
    "ListTasksResult": "client.tasks",
    "OnActivateCallback": "context.streams",
    "RequestPart": "protocol.parts",
    "RpcError": "errors",
    "SendMessageParams": "client.params",
    "SendMessageRequestPart": "client.parts",
    "SomeRefusedError": "errors",
    "StartTaskMessage": "context.messages",
    "StepError": "errors",
    "StreamError": "streams.trouble",
    "StreamObject": "context.streams",
    "StreamRef": "client.streams",
    "StreamRegistry": "streams.registry",
    "StreamUnavailableError": "errors",
    "StreamWriteError": "errors",
    "TaskCancelledError": "errors",
    "TaskClient": "client.client",
    "TaskContext": "context.task",
    "TaskEvent": "client.events",
    "TaskEventCallbacks": "client.subscribed",
    "TaskFailedError": "errors",
    "TaskFinishedError": "errors",
    "TaskInfo": "client.tasks",
    "TaskSession": "client.session",
    "TaskSubscription": "client.subscribed",
    "TokenEndpointConfig": "controlplane.sources",
    "TokenResult": "controlplane.sources",
    "TransportError": "errors",
    "build_artifact_ref": "artifacts",
    "create_channel_manager": "transports.pubnub.channels",
    "create_pubnub_client": "transports.pubnub.client",
    "create_task_client": "client.creating",
    "decode_inline_artifact": "artifacts",
    "download_artifact": "artifacts",
    "fetch_cdm_config": "controlplane.cdm",
    "file_part": "client.parts",
    "get_agent": "client.registry",
    "json_part": "client.parts",
    "presigned_upload_flow": "controlplane.presigned",
    "should_inline_artifact": "artifacts",
    "start_agent_instance": "runtime.instance",
    "subscribe_to_task": "client.watching",
    "task_channel": "protocol.channels",
    "text_part": "client.parts",
}

__all__ = [
    "BLOCKS_MAX_UPLOAD_BYTES",
    "DEFAULT_CDM_URL",
    "AgentAuth",
    "AgentAuthFatalError",
    "AgentEntry",
    "AgentInstance",
    "AgentInstanceOptions",
    "AnonTaskAccessDenied",
    "AnonTaskAccessDeniedError",
    "ArtifactError",
    "ArtifactRef",
    "AuthProvider",
    "AuthRefreshFailedError",
    "BillingModeMismatchError",
    "BlocksError",
    "CallbackErrorContext",
    "CdmApiConfig",
    "CdmConfig",
    "CdmKeyset",
    "ChannelManager",
    "ConfigurationError",
    "ConsumerAuth",
    "CredentialCache",
    "DownloadedArtifact",
    "EventQuotaError",
    "ExpireTaskMessage",
    "ExternalStreamObject",
    "FileUploadError",
    "HubUnavailableError",
    "InboundMessage",
    "InputError",
    "InvalidMessageError",
    "ListTasksParams",
    "ListTasksResult",
    "OnActivateCallback",
    "QuotaExceededError",
    "RequestPart",
    "RpcError",
    "SendMessageParams",
    "SendMessageRequestPart",
    "SomeRefusedError",
    "StartTaskMessage",
    "StepError",
    "StreamError",
    "StreamObject",
    "StreamRef",
    "StreamRegistry",
    "StreamUnavailableError",
    "StreamWriteError",
    "TaskCancelledError",
    "TaskClient",
    "TaskContext",
    "TaskEvent",
    "TaskEventCallbacks",
    "TaskFailedError",
    "TaskFinishedError",
    "TaskInfo",
    "TaskSession",
    "TaskSubscription",
    "TokenEndpointConfig",
    "TokenResult",
    "TransportError",
    "__version__",
    "build_artifact_ref",
    "create_channel_manager",
    "create_pubnub_client",
    "create_task_client",
    "decode_inline_artifact",
    "download_artifact",
    "fetch_cdm_config",
    "file_part",
    "get_agent",
    "json_part",
    "presigned_upload_flow",
    "should_inline_artifact",
    "start_agent_instance",
    "subscribe_to_task",
    "task_channel",
    "text_part",
]

# A program that configures no logging is not to see bare words; one that does is not touched.
if not logging.getLogger(__name__).handlers:
    logging.getLogger(__name__).addHandler(LastResort())


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'blocks_worker' has no attribute {name!r}")
    value = getattr(import_module(f"blocks_worker.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
