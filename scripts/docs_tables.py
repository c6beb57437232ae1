"""The tables of the protocol and of the reference, each made from the code that it is about."""

from __future__ import annotations

import ast
import re
from functools import partial
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

import msgspec
from docs_source import PACKAGE, SourceError, code, files, labelled, remark, remarks, summary, table, tree_of

from blocks_worker.cli.exits import Exit
from blocks_worker.hub.store.statements import HOT
from blocks_worker.observability.families import HUB, PROCESS, WORKER
from blocks_worker.protocol.codec import Wire
from blocks_worker.protocol.events import ErrorCode
from blocks_worker.protocol.instances import INSTANCE_RULES, InstanceTurn
from blocks_worker.protocol.leases import Numbers
from blocks_worker.protocol.lifecycle import INSTEAD, SHOWN, TASK_RULES, UNHELD, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from blocks_worker.observability.families import Family

PROTOCOL = PACKAGE / "protocol"
LIFECYCLE = PROTOCOL / "lifecycle.py"
INSTANCES = PROTOCOL / "instances.py"
LEASES = PROTOCOL / "leases.py"
EXITS = PACKAGE / "cli/exits.py"
API = PACKAGE / "hub/api"
#: The doors in the order of a task's way; others come after them.
DOORS = ("tasks", "auth", "work", "files", "registry", "cdm", "health")
#: Where a number comes from, in a word or two.
ORIGINS = {"ledger": "ledger", "start": "since the start", "now": "now"}
_BELOW = "/api/v1/"
_REFUSES = re.compile(r"\b(?:RefusalError|problem)\(")


def task_states() -> str:
    """Return each state, what consumers see of it, and what it means."""
    rows = [(state.value, code(SHOWN[state]), remark(LIFECYCLE, f"State.{state.name}")) for state in State]
    return table(("state", "consumers see", "means"), rows)


def task_turns() -> str:
    """Return each turn of a task with what it does to the numbers."""
    rows = []
    for (state, turn), rule in TASK_RULES.items():
        numbers = [f"{number:+d}".replace("-", "\N{MINUS SIGN}") if number else "" for number in _numbers(rule)]
        instead = INSTEAD.get(turn) if state is State.RUNNING else None
        otherwise = f"; {instead.to.value} when {instead.note}" if instead else ""
        unheld = UNHELD.get(turn) if state is State.INPUT_REQUIRED else None
        otherwise += f"; {unheld.to.value} when {unheld.note}" if unheld else ""
        rows.append((state.value, turn.value, rule.to.value, *numbers, rule.note + otherwise))
    return table(("state", "turn", "next", "epoch", "attempt", "lost", "when, and what else"), rows)


def _numbers(rule: Any) -> tuple[int, int, int]:
    return rule.epoch, rule.attempt, rule.lost


def instance_turns() -> str:
    """Return each turn of an instance, with the states that it leaves."""
    left: dict[tuple[InstanceTurn, str], list[str]] = {}
    for (state, turn), to in INSTANCE_RULES.items():
        left.setdefault((turn, to.value), []).append(state.value)
    order = {turn: place for place, turn in enumerate(InstanceTurn)}
    rows = [
        (turn.value, ", ".join(states), to, remark(INSTANCES, f"InstanceTurn.{turn.name}"))
        for (turn, to), states in sorted(left.items(), key=lambda row: order[row[0][0]])
    ]
    return table(("turn", "from", "next", "when"), rows)


def numbers() -> str:
    """Return the hub's numbers with their defaults."""
    rows = [
        (code(field.name), _default(field), remark(LEASES, f"Numbers.{field.name}"))
        for field in msgspec.structs.fields(Numbers)
    ]
    return table(("name", "default", "what it bounds"), rows)


def _default(field: Any) -> str:
    """Return a default; those of the numbers that are no whole ones are seconds."""
    return f"{field.default:g} s" if isinstance(field.default, float) else str(field.default)


def endpoints() -> str:
    """Return each door of the hub, from the docstring of who stands behind it."""
    others = sorted({path.stem for path in API.glob("*.py")} - set(DOORS))
    rows = (row for name in (*DOORS, *others) for row in _doors(name))
    return table(("endpoint", "what", "who", "answers"), rows)


def _doors(name: str) -> Iterator[tuple[str, str, str, str]]:
    tree = tree_of(API / f"{name}.py")
    told = {
        node.name: ast.get_docstring(node) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Name(id="Door"),
                args=[ast.Constant(value=str(verb)), ast.Constant(value=str(path)), ast.Attribute(attr=behind)],
            ):
                yield _door(f"{verb} {path.removeprefix(_BELOW)}", told.get(behind, ""), f"hub/api/{name}.py: {behind}")


def _door(address: str, said: str, place: str) -> tuple[str, str, str, str]:
    who, answers, asked = labelled(said, "Who"), labelled(said, "Answers"), labelled(said, "Query")
    if not (who and answers):
        raise SourceError(f"{place} has to say in its docstring 'Who: …' and 'Answers: …'")
    query = " by " + ", ".join(map(code, asked.split(", "))) if asked else ""
    return code(address) + query, summary(said).rstrip("."), who, answers


def error_codes() -> str:
    """Return the codes that a failed task may have, each with the remark behind it."""
    text = (PACKAGE / "protocol/events.py").read_text(encoding="utf-8")
    listed = text[text.index("ErrorCode = Literal[") :].partition("\n]")[0]
    rows = re.findall(r'"(\w+)",  # (.*)', listed)
    if [name for name, _ in rows] != list(get_args(ErrorCode)):
        raise SourceError("protocol/events.py: say behind each error code what it means")
    return table(("code", "means"), [(code(name), said) for name, said in rows])


def exit_codes() -> str:
    """Return what the programs end with."""
    return table(
        ("code", "name", "means"), [(each.value, code(each.name), remark(EXITS, f"Exit.{each.name}")) for each in Exit]
    )


def messages(name: str) -> str:
    """Return the structs of one module, with their fields as they are called on the wire."""
    module = import_module(f"blocks_worker.protocol.{name}")
    said = remarks(PROTOCOL / f"{name}.py")
    structs = [
        struct
        for struct in vars(module).values()
        if isinstance(struct, type)
        and issubclass(struct, Wire)
        and struct.__module__ == module.__name__
        and not struct.__name__.startswith("_")
    ]
    rows = [(code(_name(struct)), _says(struct), _fields(struct, said)) for struct in structs]
    return table(("body", "says", "fields"), rows)


def _name(struct: type[Wire]) -> str:
    return struct.__struct_config__.tag or struct.__name__


def _says(struct: type[Wire]) -> str:
    """Return what a body says, with its fields as they are called on the wire."""
    text = summary(struct.__doc__)
    for field in msgspec.structs.fields(struct):
        text = text.replace(code(field.name), code(field.encode_name))
    return text


def _fields(struct: type[Wire], said: dict[str, str]) -> str:
    shown = []
    for field in msgspec.structs.fields(struct):
        # The numbers have a table of their own.
        note = "" if struct is Numbers else said.get(f"{struct.__name__}.{field.name}", "").rstrip(".")
        may_miss = field.default is msgspec.UNSET or not (
            field.required or struct.__struct_config__.omit_defaults is False
        )
        shown.append(code(field.encode_name) + "?" * may_miss + (f" ({_lower(note)})" if note else ""))
    return ", ".join(shown)


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def metrics(families: Sequence[Family]) -> str:
    """Return each metric with its type, its labels and where its numbers come from."""
    rows = [
        (code(one.name), one.kind, ", ".join(map(code, one.labels)), ORIGINS[one.origin], one.says) for one in families
    ]
    return table(("metric", "type", "labels", "from", "what it tells"), rows)


def statements() -> str:
    """Return the statements that turn a task, with what each compares and sets."""
    rows = []
    for name, text in HOT.items():
        found = re.fullmatch(r"UPDATE task SET (?P<sets>.*) WHERE (?P<where>.*)", " ".join(text.split()))
        if found and re.search(r"\bstate=", found["sets"]):
            rows.append(
                (code(name), code(found["where"].replace("task.", "")), code(found["sets"].replace("task.", "")))
            )
    return table(("statement", "only where", "then"), rows)


def refusals() -> str:
    """Return each status and code with which the hub refuses, and the sentences that go with it."""
    found: dict[tuple[int, str], dict[str, None]] = {}
    for path in files(PACKAGE / "hub"):
        if not _REFUSES.search(path.read_text(encoding="utf-8")):
            continue
        statuses = {**_integers(PACKAGE / "hub/problems.py"), **_integers(path)}
        for function in ast.walk(tree_of(path)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for status, name, sentence in _refused(function, statuses):
                    found.setdefault((status, name), {})[sentence] = None
    rows = [
        (status, code(name), HTTPStatus(status).phrase, " · ".join(filter(None, sentences)))
        for (status, name), sentences in sorted(found.items())
    ]
    return table(("status", "code", "in HTTP", "sentences"), rows)


def _integers(path: Path) -> dict[str, int]:
    """Return the whole numbers that a module names, one at a time or several at once."""
    found: dict[str, int] = {}
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign):
            names, values = (
                each.elts if isinstance(each, ast.Tuple) else [each] for each in (node.targets[0], node.value)
            )
            for name, value in zip(names, values, strict=False):
                if isinstance(name, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, int):
                    found[name.id] = value.value
    return found


def _refused(
    function: ast.FunctionDef | ast.AsyncFunctionDef, statuses: dict[str, int]
) -> Iterator[tuple[int, str, str]]:
    texts = {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(function):
        match node:
            case ast.Call(
                func=ast.Name(id="RefusalError" | "problem"), args=[status, ast.Constant(value=str(name)), said, *_]
            ):
                sentence = _sentence(_behind(said, texts))
                for node_of_status in ast.walk(_behind(status, texts)):
                    if (number := _number(node_of_status, statuses)) is not None:
                        yield number, name, sentence


def _behind(node: ast.expr, texts: dict[str, ast.expr]) -> ast.expr:
    """Return what a local name was given; everything else as it is."""
    return texts.get(node.id, node) if isinstance(node, ast.Name) else node


def _number(node: ast.AST, statuses: dict[str, int]) -> int | None:
    if isinstance(node, ast.Name):
        return statuses.get(node.id)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int) else None


def _sentence(node: ast.expr) -> str:
    """Return a sentence of the code, with … for what is put in at run time."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def _made(make: Callable[[], str]) -> Callable[[str], str]:
    return lambda _old: make()


BLOCKS: dict[str, Callable[[str], str]] = {
    "task-states": _made(task_states),
    "task-turns": _made(task_turns),
    "instance-turns": _made(instance_turns),
    "numbers": _made(numbers),
    "endpoints": _made(endpoints),
    "error-codes": _made(error_codes),
    "exit-codes": _made(exit_codes),
    "statements": _made(statements),
    "refusals": _made(refusals),
    "metrics-worker": _made(partial(metrics, WORKER)),
    "metrics-hub": _made(partial(metrics, HUB)),
    "metrics-process": _made(partial(metrics, PROCESS)),
    **{f"messages-{path.stem}": _made(partial(messages, path.stem)) for path in files(PROTOCOL)},
}
