"""One file to a hub's store, for those who have a token and no client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.files import Source, patience, store_file
from blocks_worker.controlplane.http import Http
from blocks_worker.errors import NotConfiguredError
from blocks_worker.protocol.files import RequestUpload

if TYPE_CHECKING:
    from blocks_worker.protocol.files import FileRole

#: Seconds for the whole flow, with its repeats.
_TIMEOUT = 30.0
_BEARER = "Bearer "


class _Header:
    """Be the bearer that somebody's auth object stands for.

    It has `get_auth_header` and `on_auth_failure`, or `access_token` and `on_unauthorized`; or is a token.
    """

    def __init__(self, auth: Any) -> None:
        self._auth = auth

    def access_token(self) -> str:
        """Return the token to use now."""
        if isinstance(self._auth, str):
            return self._auth.removeprefix(_BEARER)
        if hasattr(self._auth, "get_auth_header"):
            return (self._auth.get_auth_header() or "").removeprefix(_BEARER)
        return str(self._auth.access_token())

    def on_unauthorized(self, refused: str) -> bool:
        """Get a new token because this one was refused; tell whether there is another one now."""
        if hasattr(self._auth, "on_auth_failure"):
            return bool(self._auth.on_auth_failure())
        return hasattr(self._auth, "on_unauthorized") and bool(self._auth.on_unauthorized(refused))


def presigned_upload_flow(  # noqa: PLR0913 - the names which users know
    base_url: str,
    file_data: Source,
    *,
    role: FileRole,
    file_name: str | None = None,
    mime_type: str = "application/octet-stream",
    agent_name: str | None = None,
    task_id: str | None = None,
    part_id: str | None = None,
    output_id: str | None = None,
    upload_session_id: str | None = None,
    agent_auth: Any = None,
    auth_provider: Any = None,
) -> dict[str, Any]:
    """Store bytes, a path or a file object, and return ``uploadId``, ``uploadSessionId`` and ``artifactRef``.

    Args:
        base_url: address of the hub.
        file_data: sent in pieces; a path is never held whole.
        role: ``consumer-input`` needs `agent_name` or `upload_session_id`, ``provider-output`` `task_id`.
        file_name: what readers see; it decides no place.
        mime_type: what readers are told the bytes are.
        agent_name: who is to get the input.
        task_id: a task that the instance holds whose token it is.
        part_id: which input it is.
        output_id: which output it is.
        upload_session_id: of an earlier upload of the same request.
        agent_auth: an instance's token, or an object that has one; for outputs.
        auth_provider: the same for a consumer.

    Raises:
        FileUploadError: it is too large, or the hub refused it or did not answer.
        NotConfiguredError: a RuntimeError: neither `agent_auth` nor `auth_provider` is given.
    """
    auth = auth_provider if agent_auth is None else agent_auth
    if auth is None:
        raise NotConfiguredError("give agent_auth or auth_provider: the hub takes files from those it knows")
    about = RequestUpload(
        role=role,
        file_name=file_name,
        mime_type=mime_type,
        agent_name=agent_name,
        task_id=task_id,
        part_id=part_id,
        output_id=output_id,
        upload_session_id=upload_session_id,
    )
    http = Http(base_url)
    try:
        done = store_file(HubApi(http, _Header(auth)), file_data, about, patience(Clock(), Entropy(), _TIMEOUT))
    finally:
        http.close()
    session = {"uploadSessionId": upload_session_id} if upload_session_id else {}
    return {"uploadId": done.upload_id, **session, "artifactRef": done.artifact_ref.to_dict()}
