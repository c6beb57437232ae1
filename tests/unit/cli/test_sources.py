"""Which files a worker is made of, and what counts as a change of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from blocks_worker.cli.sources import sources_of

if TYPE_CHECKING:
    from pathlib import Path


def test_code_card_and_registry_are_watched(tmp_path: Path) -> None:
    """What is written, made or taken away is told once; other files and environments are none of it."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    entry = {"name": "a", "runtime": "python", "entrypoint": "a:handler", "card": "a-card.json"}
    (tmp_path / "registry.json").write_text(json.dumps({"schemaVersion": "1.0", "handlers": [entry]}))
    sources = sources_of(tmp_path, None, None)
    assert sources.changed() == []

    watched = ["a-card.json", "agent-card.json", ".env", "registry.json", "one.py", "parts/two.py"]
    for name in [*watched, "size.txt", "out.json", "env/three.py"]:
        (tmp_path / name).write_text("{}")
    assert sources.changed() == sorted(tmp_path / name for name in watched)
    assert sources.changed() == []
    (tmp_path / "one.py").unlink()
    (tmp_path / "parts" / "two.py").write_text("[]")

    assert sources.changed() == [tmp_path / "one.py", tmp_path / "parts" / "two.py"]


def test_the_handlers_own_file_is_watched_in_the_largest_folder(tmp_path: Path) -> None:
    """Code that is named comes before the rest, of which there may be more than a look takes; that is known."""
    (tmp_path / "aaa").mkdir()
    for number in range(20):
        (tmp_path / "aaa" / f"f{number}.py").touch()
    entries = [{"name": "a", "entrypoint": "zz.listed:handler"}, {"name": "b", "entrypoint": "zz/filed.py:handler"}]
    (tmp_path / "registry.json").write_text(json.dumps({"schemaVersion": "1.0", "handlers": entries}))
    (tmp_path / "agent-card.json").write_text(json.dumps({"runtime": {"handler": "zz/carded.py"}}))
    sources = sources_of(tmp_path, None, None, ["zz.spoken:handler", "a"], most=20)
    assert sources.is_cut

    names = ["carded.py", "filed.py", "listed.py", "spoken.py"]
    (tmp_path / "zz").mkdir()
    for name in names:
        (tmp_path / "zz" / name).write_text("x")

    assert [path.name for path in sources.changed() if path.parent.name == "zz"] == names
    assert not sources_of(tmp_path / "zz", None, None, most=20).is_cut


def test_files_that_were_named_are_watched_where_they_are(tmp_path: Path) -> None:
    """Registry and card may be in another folder: what lies beside them counts as well; a wrong file is one too."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (there / "mine.json").write_text("no JSON")
    sources = sources_of(here, there / "mine.json", there / "its.json")

    for name in ("mine.json", "its.json", "code.py"):
        (there / name).write_text("x")

    assert len(sources.changed()) == 3
