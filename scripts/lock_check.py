"""Say where constraints.txt and constraints-dev.txt do not fit pyproject.toml, or lack a hash; no network is asked."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent


def wrong() -> Iterator[str]:
    """Yield a line for each thing that ./scripts/lock would mend."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["metrics"]]
    yield from _wrong_in("constraints.txt", wanted)
    yield from _wrong_in("constraints-dev.txt", [*wanted, *project["optional-dependencies"]["dev"]])


def _wrong_in(name: str, wanted: list[str]) -> Iterator[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    locked: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\S)", text):
        pin = re.match(r"([A-Za-z0-9._-]+)==(\S+)", block)
        if pin is None:
            if not block.startswith("#"):
                yield f"{name}: {block.strip()[:60]!r} names no version"
            continue
        locked.setdefault(canonicalize_name(pin[1]), []).append(pin[2])
        if "--hash=sha256:" not in block:
            yield f"{name}: {pin[1]} has no hash"
    for requirement in map(Requirement, wanted):
        versions = locked.get(canonicalize_name(requirement.name), [])
        if not versions or not all(requirement.specifier.contains(each, prereleases=True) for each in versions):
            yield f"{name}: {requirement} is not what it has ({', '.join(versions) or 'nothing'}); run ./scripts/lock"


if __name__ == "__main__":
    lines = list(wrong())
    print("\n".join(lines) or "the lock fits")
    sys.exit(bool(lines))
