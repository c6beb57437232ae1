"""Whether Python and the libraries are those that this release needs."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, metadata, version
from typing import TYPE_CHECKING, NamedTuple

from blocks_worker.cli.findings import Found

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = "blocks_worker"
_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?(?P<bounds>[^;()]*)\)?\s*(?:;(?P<when>.*))?"
)
_BOUND = re.compile(r"(?P<sign>>=|<=|==|>|<)\s*(?P<version>\d+(?:\.\d+)*)$")
_RELEASE = re.compile(r"\d+(?:\.\d+)*")


class Need(NamedTuple):
    """A library, the bounds of its version as they are written, and whether it may be missing here."""

    name: str
    bounds: str
    is_optional: bool


def machine() -> Iterator[Found]:
    """Compare what is installed with what the package says it needs."""
    try:
        about = metadata(_PACKAGE)
    except PackageNotFoundError:
        yield Found("warning", "python", f"{_PACKAGE} is not installed, its needs are unknown", "run 'pip install .'")
        return
    wanted = (about.get_all("Requires-Python") or [""])[0]
    found = platform.python_version()
    broken = False
    if not fits(found, wanted):
        broken = True
        cure = f"make an environment with a Python {wanted}, and install {_PACKAGE} there"
        yield Found("error", "python", f"{found} runs ({sys.executable}), {wanted} is needed", cure)
    for need in needs(about.get_all("Requires-Dist") or []):
        for finding in _library(need):
            broken = True
            yield finding
    if not broken:
        yield Found("note", "python", f"{found}, pubnub {version('pubnub')}; every library is within its bounds")


def needs(lines: list[str]) -> Iterator[Need]:
    """Yield what is needed always; what only an extra needs is left out."""
    for line in lines:
        found = _REQUIREMENT.match(line)
        when = "" if found is None else found["when"] or ""
        if found is not None and "extra" not in when:
            yield Need(found["name"], found["bounds"].strip(), is_optional=bool(when))


def fits(found: str, bounds: str) -> bool:
    """Tell whether a version is within bounds such as ``<11,>=10.6``; a bound in another form binds nobody here."""
    return all(_within(found, bound.strip()) for bound in bounds.split(",") if bound.strip())


def _library(need: Need) -> Iterator[Found]:
    cure = f"run '{sys.executable} -m pip install \"{need.name}{need.bounds}\"'"
    try:
        found = version(need.name)
    except PackageNotFoundError:
        if not need.is_optional:
            yield Found("error", "library", f"{need.name} is not installed", cure)
        return
    if not fits(found, need.bounds):
        yield Found("error", "library", f"{need.name} {found} is installed, {need.bounds} is needed", cure)


def _within(found: str, bound: str) -> bool:
    parsed = _BOUND.match(bound)
    if parsed is None:
        return True
    have, limit = _numbers(found), _numbers(parsed["version"])
    width = max(len(have), len(limit))
    have, limit = have + (0,) * (width - len(have)), limit + (0,) * (width - len(limit))
    return {
        ">=": have >= limit,
        "<=": have <= limit,
        "==": have == limit,
        ">": have > limit,
        "<": have < limit,
    }[parsed["sign"]]


def _numbers(text: str) -> tuple[int, ...]:
    found = _RELEASE.match(text)
    return () if found is None else tuple(int(part) for part in found[0].split("."))
