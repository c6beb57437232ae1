"""What the pages say of signatures, and how their examples use them, against the code."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import blocks_worker
from blocks_worker.context.events import TaskEvents
from blocks_worker.context.messages import StartTaskMessage
from blocks_worker.context.task import TaskContext
from blocks_worker.stream import StreamClient
from blocks_worker.worker.run_streams import RunStreams

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/api.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
PROGRAMS = sorted((ROOT / "examples").rglob("*.py"))
#: What a context gets from a run, and what does it.
BOUND = {
    "report_status": TaskEvents.report_status,
    "report_progress": TaskEvents.report_progress,
    "publish_artifact": TaskEvents.publish_artifact,
    "create_stream": RunStreams.create,
    "stream_or_none": RunStreams.create,
}
#: What takes the fields of a class in several forms.
FIELDS_OF = {("TaskClient", "send_message"): blocks_worker.SendMessageParams}
#: What is called how in all examples.
CALLED: dict[str, type] = {
    "client": blocks_worker.TaskClient,
    "session": blocks_worker.TaskSession,
    "task": StartTaskMessage,
    "ctx": TaskContext,
    "ref": blocks_worker.StreamRef,
    "stream": StreamClient,
    "event": blocks_worker.TaskEvent,
    "instance": blocks_worker.AgentInstance,
}
#: Attributes that instances have and classes have not.
SET_LATER = {"task_id", "owner_id", "org_id", "status_channel", "idempotent", "agent_name", "instance_id", "error"}

_TITLE = re.compile(r"^### (\w+)(?: \(`([\w.]+)`\))?$")
_SIGNATURE = re.compile(r"^(?:\| )?`(\w+\([^`]*\))`(?: \||$)")
_FENCED = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_ANY_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_QUOTED = re.compile(r"`([^`\n]+\))`")


class Said(NamedTuple):
    """One signature of the page: whose it is, and as it stands there."""

    owner: Any
    title: str
    text: str


def said() -> Iterator[Said]:
    """Yield each signature of the page."""
    owner: Any = None
    title = ""
    for line in PAGE.read_text().splitlines():
        head, signature = _TITLE.match(line), _SIGNATURE.match(line)
        if head:
            title = head[1]
            owner = getattr(import_module(head[2] or "blocks_worker"), title)
        elif signature:
            yield Said(owner, title, signature[1])


def test_every_public_name_is_on_the_page() -> None:
    """[R-9] Each name of the package has a title of its own."""
    titles = {found[1] for line in PAGE.read_text().splitlines() if (found := _TITLE.match(line))}

    assert set(blocks_worker.__all__) - {"__version__"} <= titles


def parameters(text: str) -> dict[str, tuple[Any, Any]]:
    """Return kind and default of each parameter of a signature as it is written; `...` for a default not shown."""
    (function,) = ast.parse(f"def {text}: pass").body
    assert isinstance(function, ast.FunctionDef)
    one = inspect.Parameter
    places = [(arg, one.POSITIONAL_OR_KEYWORD) for arg in function.args.args]
    defaults = [None] * (len(places) - len(function.args.defaults)) + [*function.args.defaults]
    found = {arg.arg: (kind, _value(default)) for (arg, kind), default in zip(places, defaults, strict=True)}
    for arg, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        found[arg.arg] = (one.KEYWORD_ONLY, _value(default))
    for rest, kind in ((function.args.vararg, one.VAR_POSITIONAL), (function.args.kwarg, one.VAR_KEYWORD)):
        if rest is not None:
            found[rest.arg] = (kind, one.empty)
    return found


def _value(default: ast.expr | None) -> Any:
    return inspect.Parameter.empty if default is None else ast.literal_eval(default)


def real(function: Any) -> dict[str, tuple[Any, Any]]:
    """Return the same of a function; `self` and what begins with an underscore are nobody's to give."""
    return {
        name: (one.kind, one.default)
        for name, one in inspect.signature(function).parameters.items()
        if name != "self" and not name.startswith("_")
    }


@pytest.mark.parametrize("one", list(said()), ids=lambda one: f"{one.title} {one.text.partition('(')[0]}")
def test_every_signature_is_that_of_the_code(one: Said) -> None:
    """[R-9] Names, order, kinds and defaults of the parameters on the page are those of the code."""
    name = one.text.partition("(")[0]
    bound = BOUND.get(name) if one.title == "TaskContext" and name != "stream_or_none" else None
    bound = FIELDS_OF.get((one.title, name), bound)
    function = bound or (one.owner if name == one.title else getattr(one.owner, name))

    there, here = parameters(one.text), real(function)

    assert sorted(there) == sorted(here)
    for name, (kind, default) in there.items():
        assert kind == here[name][0], name
        if default is not ...:
            assert default == here[name][1], name
        else:
            assert here[name][1] is not inspect.Parameter.empty, name
    order = [name for name, (kind, _) in here.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [name for name in there if name in order] == order


def used(code: str) -> Iterator[tuple[Any, ast.Call]]:
    """Yield each call in a piece of code to something of ours, with what is called."""
    tree = ast.parse(code)
    imported = {
        alias.asname or alias.name: getattr(import_module(node.module), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "blocks_worker" and node.module
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        target = node.func
        if isinstance(target, ast.Name) and target.id in imported:
            yield imported[target.id], node
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            owner: Any = {**CALLED, **imported, "TaskClient": blocks_worker.TaskClient}.get(target.value.id)
            if owner is TaskContext and target.attr in BOUND:
                yield BOUND[target.attr], node
            elif owner is not None and target.attr not in SET_LATER | {"call", "download_input_artifact"}:
                yield getattr(owner, target.attr), node


def check(function: Any, call: ast.Call) -> None:
    """Bind a call's arguments to what it calls; of `send_message` the keywords are fields of its parameters."""
    keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg is not None}
    if function in (blocks_worker.TaskClient.send_message, blocks_worker.TaskClient.run):
        fields = set(inspect.signature(blocks_worker.SendMessageParams).parameters)
        allowed = fields | set(inspect.signature(function).parameters)
        assert set(keywords) <= allowed, ast.unparse(call)
    if any(isinstance(one, ast.Starred) for one in call.args) or len(keywords) < len(call.keywords):
        return
    signature = inspect.signature(function)
    is_method = next(iter(signature.parameters), "") == "self"
    try:
        signature.bind(*([None] * (len(call.args) + is_method)), **keywords)
    except TypeError as error:
        raise AssertionError(f"{ast.unparse(call)}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_example_of_a_page_fits_the_code(page: Path) -> None:
    """[R-9] Each call in the code of a page, and each that its sentences quote, can be made as it stands there."""
    text = page.read_text()
    quoted = [] if page == PAGE else _QUOTED.findall(_ANY_FENCED.sub("", text))
    for code in [*_FENCED.findall(text), *filter(_is_code, quoted)]:
        for function, call in used(code):
            check(function, call)


def _is_code(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_program_among_the_examples_fits_the_code(path: Path) -> None:
    """[R-9] Each call to something of ours in an example can be made as it stands there."""
    for function, call in used(path.read_text()):
        check(function, call)


def test_the_comparison_finds_what_is_wrong() -> None:
    """[R-9] A call that cannot be made is found, in a program and in a sentence."""
    wrong = ["client.run('a', 'b', timout=3)", "session.wait_for_terminal(1, 2)", "ctx.report_progress()"]
    imported = "from blocks_worker import file_part\nfile_part(name='x')"
    for code in [*wrong, imported]:
        ((function, call),) = used(code)
        with pytest.raises(AssertionError):
            check(function, call)
    with pytest.raises(AttributeError):
        list(used("session.wait_for_the_end()"))
