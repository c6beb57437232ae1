"""Every public name with its signature and what it is for, as docs/api.md lists them."""

from __future__ import annotations

import inspect
import re
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from docs_source import PACKAGE, SourceError, code, remark, summary, table

import blocks_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The names of each part of the page, in its order. A module stands before its names; without one it is the package.
GROUPS = {
    "provider": "start_agent_instance AgentInstanceOptions AgentInstance",
    "handler": """
        StartTaskMessage RequestPart TaskContext StreamObject ExternalStreamObject OnActivateCallback ExpireTaskMessage
        types: CancelTaskMessage ControlMessage AgentInstancePresenceState parse_control_message
        handler_loader: load_registry get_available_handlers find_handler_entry load_handler_function
    """,
    "consumer": """
        TaskClient create_task_client SendMessageParams SendMessageRequestPart text_part json_part file_part
        TaskSession TaskEvent CallbackErrorContext TaskInfo ListTasksParams ListTasksResult task_channel
        subscribe_to_task TaskEventCallbacks TaskSubscription
    """,
    "streams": """
        StreamRef stream: StreamClient StreamDescriptor blocks_worker: InboundMessage StreamError
        stream: invert_direction blocks_worker: StreamRegistry
    """,
    "artifacts": """
        ArtifactRef DownloadedArtifact download_artifact decode_inline_artifact build_artifact_ref
        should_inline_artifact presigned_upload_flow BLOCKS_MAX_UPLOAD_BYTES
        artifacts: artifact_pieces as_ref FileReader
    """,
    "credentials": """
        ConsumerAuth TokenEndpointConfig TokenResult AuthProvider auth_provider: StaticAuthProvider
        blocks_worker: AgentAuth CredentialCache create_pubnub_client ChannelManager create_channel_manager
    """,
    "registry": """
        get_agent AgentEntry
        agent_registry: fetch_agent_registry fetch_agents_by_tag fetch_agents_by_skill fetch_agents_by_listing
        connect_agent ConnectAgentOptions AgentConnection AgentScaling remove_agent
        blocks_worker: fetch_cdm_config CdmConfig CdmKeyset CdmApiConfig DEFAULT_CDM_URL
    """,
    "testing": "testing: run_handler HandlerRun LocalStack StackFaults",
    "errors": """
        BlocksError ConfigurationError InvalidMessageError RpcError BillingModeMismatchError SomeRefusedError
        QuotaExceededError EventQuotaError
        HubUnavailableError AgentAuthFatalError AuthRefreshFailedError FileUploadError InputError ArtifactError
        StepError TaskFailedError TaskCancelledError TaskFinishedError StreamUnavailableError StreamWriteError
        TransportError AnonTaskAccessDenied AnonTaskAccessDeniedError
    """,
}
#: Members of a context that a run puts there: what does them.
BOUND = {
    "report_status": ("context.events", "TaskEvents"),
    "report_progress": ("context.events", "TaskEvents"),
    "publish_artifact": ("context.events", "TaskEvents"),
    "create_stream": ("worker.run_streams", "RunStreams.create"),
}
#: What the library makes: nobody calls them.
MADE_HERE = {
    "AgentInstance",
    "StreamObject",
    "ExternalStreamObject",
    "TaskSession",
    "StreamRef",
    "AgentAuth",
    "HandlerRun",
    "StackFaults",
}
#: Members by which the parts of the library speak to each other.
INNER = {
    *("of", "start", "check_first_word", "hurry", "kill", "pulse", "api"),
    *("interrupt", "detach", "close_within", "report", "end_at", "troubled", "finished"),
    *("accepted", "found", "was_over", "feed", "feed_ledger", "tick", "doubt", "due", "question"),
    *("with_gap", "weight", "not_told", "register", "hand_out", "cut", "follow"),
    *("not_over", "held_up"),
}
#: Members that take the fields of a class in several forms: that class.
TAKES_FIELDS = {("TaskClient", "send_message"): "SendMessageParams"}
_ATTRIBUTES = re.compile(r"^Attributes:\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^    (\w+(?:, \w+)*): (.*(?:\n {6,}.*)*)", re.MULTILINE)
_PLAIN = (str, int, float, bool, bytes, type(None), tuple)


class Entry:
    """One public name."""

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name
        self.value: Any = getattr(import_module(module), name)

    @cached_property
    def doc(self) -> str:
        """What it says of itself."""
        value = self.value
        if inspect.isclass(value) or inspect.isroutine(value):
            if value.__name__ != self.name:
                return f"Another name of `{value.__name__}`."
            return inspect.getdoc(value) or ""
        return self._remark()

    def _remark(self) -> str:
        """Return what stands above a constant."""
        home = blocks_worker._HOMES[self.name]  # noqa: SLF001 - nobody else needs to know where names live
        return remark(PACKAGE / f"{home.replace('.', '/')}.py", self.name)

    @property
    def head(self) -> str:
        """The name with its signature, where it has one."""
        return signature_of(self.value, self.name) if self.is_own and self._is_called else self.name

    @property
    def _is_called(self) -> bool:
        """Whether users call it with arguments that it tells of."""
        if not inspect.isclass(self.value):
            return True
        says = "__init__" in vars(self.value) or _has_fields(self.value)
        return says and self.name not in MADE_HERE and not getattr(self.value, "_is_protocol", False)

    @property
    def is_own(self) -> bool:
        """Whether it is a function or class of ours, and no alias of a type."""
        return (inspect.isclass(self.value) or inspect.isfunction(self.value)) and self.value.__name__ == self.name

    def members(self) -> Iterator[tuple[str, str]]:
        """Yield each public member of a class of ours, and what it says."""
        if not inspect.isclass(self.value) or not self.is_own:
            return
        described = attributes(self.doc)
        if self.name == "TaskContext":
            described.update((signature_of(_bound(name), name), described.pop(name)) for name in BOUND)
        yield from described.items()
        for name in _public(self.value):
            member = inspect.getattr_static(self.value, name)
            if (self.name, name) in TAKES_FIELDS:
                yield signature_of(getattr(blocks_worker, TAKES_FIELDS[self.name, name]), name), _said(member)
            elif isinstance(member, property) or hasattr(member, "attrname"):
                yield name, _said(member)
            elif isinstance(member, (classmethod, staticmethod)) or inspect.isfunction(member):
                yield signature_of(getattr(self.value, name), name), _said(member)


@cache
def entries() -> dict[str, list[Entry]]:
    """Return the names of each group.

    Raises:
        SourceError: a public name stands in no group, or in two.
    """
    groups = {group: list(_entries(words)) for group, words in GROUPS.items()}
    said = [entry.name for group in groups.values() for entry in group]
    wanted = {name for name in blocks_worker.__all__ if name != "__version__"}
    if wanted - set(said) or len(said) != len(set(said)):
        raise SourceError(f"GROUPS lacks {sorted(wanted - set(said))}, or has a name twice")
    return groups


def _entries(words: str) -> Iterator[Entry]:
    module = "blocks_worker"
    for word in words.split():
        if word.endswith(":"):
            module = "blocks_worker" if word == "blocks_worker:" else f"blocks_worker.{word[:-1]}"
        else:
            yield Entry(module, word)


def signature_of(function: Any, name: str) -> str:
    """Return a name with its parameters and their defaults; ``...`` stands for one that is no plain value."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        return name
    shown: list[str] = []
    for parameter in parameters:
        if parameter.name == "self" or parameter.name.startswith("_"):
            continue
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not any(one.startswith("*") for one in shown):
            shown.append("*")
        star = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        shown.append(f"{star}{parameter.name}{_default(parameter.default)}")
    return f"{name}({', '.join(shown)})"


def _default(value: object) -> str:
    if value is inspect.Parameter.empty:
        return ""
    return f"={value!r}" if type(value) in _PLAIN else "=..."


def attributes(doc: str) -> dict[str, str]:
    """Return what a docstring says below ``Attributes:``, by name."""
    found = _ATTRIBUTES.search(doc + "\n")
    return {name: " ".join(said.split()) for name, said in _ATTRIBUTE.findall(found[1])} if found else {}


def _bound(name: str) -> Any:
    module, where = BOUND[name]
    owner, _, method = where.partition(".")
    return getattr(getattr(import_module(f"blocks_worker.{module}"), owner), method or name)


def _said(member: object) -> str:
    return summary(inspect.getdoc(member))


def _has_fields(kind: type) -> bool:
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__struct_fields__")


def _public(kind: type) -> list[str]:
    """Return the public members that our own classes define, those of the class itself first."""
    ours = [one for one in kind.__mro__ if one.__module__.startswith("blocks_worker")]
    names = [name for one in ours for name in vars(one) if not name.startswith("_")]
    stored = set(getattr(kind, "__struct_fields__", ())) | set(getattr(kind, "__dataclass_fields__", ()))
    return [name for name in dict.fromkeys(names) if name not in stored | INNER]


def group(name: str) -> str:
    """Return one part of the page."""
    return "\n\n".join(_shown(entry) for entry in entries()[name])


def _shown(entry: Entry) -> str:
    where = "" if entry.module == "blocks_worker" else f" (`{entry.module}`)"
    title = f"### {entry.name}{where}"
    head = "" if entry.head == entry.name else f"{code(entry.head)}\n\n"
    rows = [(code(member), said) for member, said in entry.members()]
    below = f"\n\n{table(('member', 'says'), rows)}" if rows else ""
    return f"{title}\n\n{head}{summary(entry.doc)}{below}"


BLOCKS: dict[str, Callable[[str], str]] = {
    f"api-{name}": (lambda _old, name=name: group(name))  # type: ignore[misc]  # the name is bound now
    for name in GROUPS
}
