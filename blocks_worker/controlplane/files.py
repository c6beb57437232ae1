"""Files up to the hub and down again, by pieces: what is cut off goes on where it was, what arrives is checked."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeAlias

import msgspec

from blocks_worker.concurrency import Backoff, Deadline
from blocks_worker.errors import ArtifactError, FileUploadError, HubUnavailableError, RpcError
from blocks_worker.protocol.files import MAX_UPLOAD, PIECE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.protocol.events import ArtifactRef
    from blocks_worker.protocol.files import RequestUpload, UploadDone, UploadOffer, UploadProgress

    #: What is asked before each further try, with what the last one met: it pauses, and tells whether to try.
    Again: TypeAlias = Callable[[Exception], bool]

#: Bytes, a path, or a file that is read from where it stands to its end.
Source: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO"

#: The hub was too slow or too busy, or the bytes did not all arrive: the same may go well next time.
_PASSING_STATUS = frozenset({408, 503})
_PASSING_CODES = frozenset({"NotUploaded", "OtherOffset"})
#: Longest pause between two tries, in seconds.
_PAUSE = 2.0


class FileApi(Protocol):
    """Be the hub's calls for files.

    Each raises `HubUnavailableError` when nothing answered and `RpcError` when it was refused.
    """

    def request_upload(self, request: RequestUpload) -> UploadOffer:
        """Ask where the bytes of a file may be sent."""

    def upload_progress(self, url: str) -> UploadProgress:
        """Ask how much of a file is there."""

    def put_file(self, url: str, file: BinaryIO, size: int, first: int = 0) -> None:
        """Send the bytes of a file of this size from one on, each once."""

    def confirm_upload(self, upload_id: str) -> UploadDone:
        """Return the reference to a file all of which is there."""

    def file(self, file_id: str, first: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """Give the pieces of a stored file from one byte on."""


def patience(clock: Clock, entropy: Entropy, timeout: float) -> Again:
    """Return what allows further tries until so many seconds have passed."""
    return patience_while(clock, entropy, _not(Deadline(timeout, clock).expired))


def patience_while(clock: Clock, entropy: Entropy, holds: Callable[[], bool]) -> Again:
    """Return what allows further tries as long as something holds."""
    backoff = Backoff(entropy, first=0.1, cap=_PAUSE)

    def again(failure: Exception) -> bool:
        clock.pause(backoff.after(failure))
        return holds()

    return again


@dataclass(frozen=True)
class _Sent:
    """A file ready to be sent: open, its length and content known."""

    file: BinaryIO
    size: int
    sha256: str


def store_file(api: FileApi, source: Source, about: RequestUpload, again: Again) -> UploadDone:
    """Store a file at the hub, and return its reference; `about` says all but its length and content.

    A path or file is read twice, once for its hash and once to be sent, and never held whole. What is cut off goes on
    behind what the hub has of it.

    Raises:
        FileUploadError: it is too large, the hub refused it or did not answer any more.
        ArtifactError: it cannot be read, or changed meanwhile.
    """
    with _opened(source) as sent:
        request = msgspec.structs.replace(about, file_size=sent.size, sha256=sent.sha256)
        upload = _Upload(api, sent, request)
        while True:
            try:
                return upload.go_on()
            except HubUnavailableError as error:
                last: Exception = error
            except RpcError as error:
                if error.status not in _PASSING_STATUS and error.code not in _PASSING_CODES:
                    raise _failed(error, error.status) from error
                last = error
            if not again(last):
                raise _failed(last, getattr(last, "status", 0)) from last


def pieces_of(api: FileApi, ref: ArtifactRef, again: Again) -> Iterator[bytes]:
    """Yield the pieces of a stored file; what was cut off goes on where it was, and the end is checked.

    Raises:
        ArtifactError: the reference names no file, or what came is not what it says.
        RpcError: the hub refused.
        HubUnavailableError: it did not answer any more.
    """
    if ref.kind != "file" or not ref.file_id:
        raise ArtifactError("the reference names no stored file: its kind or fileId is missing")
    digest, size = hashlib.sha256(), 0
    while True:
        try:
            with api.file(ref.file_id, size) as pieces:
                for piece in pieces:
                    digest.update(piece)
                    size += len(piece)
                    yield piece
            break
        except HubUnavailableError as error:
            if not again(error):
                raise
    check_hash(ref, digest.hexdigest())
    if size != ref.size:
        raise ArtifactError(f"the file is {size} bytes where its reference says {ref.size}")


def check_hash(ref: ArtifactRef, found: str) -> None:
    """Compare a content's SHA-256 with the one that its reference tells, if it does.

    Raises:
        ArtifactError: they differ.
    """
    if ref.hash and ref.hash.removeprefix("sha256:").lower() != found:
        raise ArtifactError("the artifact's data is not what its hash says")


class _Upload:
    """Be the way of one file to the hub, over as many tries as it takes."""

    def __init__(self, api: FileApi, sent: _Sent, request: RequestUpload) -> None:
        self._api = api
        self._sent = sent
        self._request = request
        self._offer: UploadOffer | None = None

    def go_on(self) -> UploadDone:
        """Send what is missing, and return the reference; what is raised says whether another try may help."""
        if self._offer is None:
            self._offer = self._api.request_upload(self._request)
            first: int | None = 0
        else:
            first = self._there(self._offer)
        if first is not None and self._is_open(self._offer, first):
            return self._api.confirm_upload(self._offer.upload_id)
        # The address is over: all of it is there and only the answer was lost, or it is to be begun anew.
        offer, self._offer = self._offer, None
        try:
            return self._api.confirm_upload(offer.upload_id)
        except RpcError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            raise RpcError(error.rpc_message, code="NotUploaded", status=HTTPStatus.CONFLICT) from error

    def _there(self, offer: UploadOffer) -> int | None:
        """Return how much of the file is there; None when its address is over."""
        try:
            return self._api.upload_progress(offer.upload_url).offset
        except RpcError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return None

    def _is_open(self, offer: UploadOffer, first: int) -> bool:
        """Send from one byte on; tell whether there was where to."""
        self._sent.file.seek(first)
        try:
            self._api.put_file(offer.upload_url, self._sent.file, self._sent.size, first)
        except HubUnavailableError:
            pass  # all of it may have arrived, and only the answer be lost: the hub is asked
        except RpcError as error:
            # What was there may be not what had been sent: that can be after a power cut of the hub.
            if error.status != HTTPStatus.NOT_FOUND and not (error.code == "NotAsSaid" and first):
                raise
            return False
        return True


@contextmanager
def _opened(source: Source) -> Iterator[_Sent]:
    with ExitStack() as stack:
        file = stack.enter_context(_file_of(source))
        digest, size = hashlib.sha256(), 0
        for piece in _read(file):
            digest.update(piece)
            size += len(piece)
            if size > MAX_UPLOAD:
                raise FileUploadError(f"the file is larger than the {MAX_UPLOAD} bytes allowed", status_code=413)
        yield _Sent(file, size, digest.hexdigest())


def _file_of(source: Source) -> BinaryIO:
    """Return a file of our own that begins with the first byte to send."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source)
    if isinstance(source, (str, os.PathLike)):
        try:
            return Path(source).open("rb", buffering=0)
        except OSError as error:
            raise ArtifactError(f"the file cannot be read: {error.strerror or error}") from error
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    for piece in _read(source):
        copy.write(piece)
    copy.seek(0)
    return copy


def _read(file: BinaryIO) -> Iterator[bytes]:
    try:
        while piece := file.read(PIECE):
            yield piece
    except OSError as error:
        raise ArtifactError(f"the file cannot be read: {error.strerror or error}") from error


def _failed(error: Exception, status: int) -> FileUploadError:
    text = error.rpc_message if isinstance(error, RpcError) else str(error)
    return FileUploadError(f"the file could not be stored: {text}", status_code=status)


def _not(asked: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: not asked()
