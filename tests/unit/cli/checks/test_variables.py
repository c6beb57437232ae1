import re
from pathlib import Path

import pytest

import blocks_worker.config
from blocks_worker.cli.checks.variables import variables
from blocks_worker.config import VARIABLES


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("BLOCKS_CDM_ULR", "did you mean BLOCKS_CDM_URL?"),
        ("BLOCK_API_KEY", "did you mean BLOCKS_API_KEY?"),
        ("blocks_state_dir", "did you mean BLOCKS_STATE_DIR?"),
        ("BLOCKS_XQZ", "unset it, or mend its name"),
    ],
)
def test_a_variable_that_nobody_reads_is_named_with_the_nearest(name: str, cure: str) -> None:
    """A slip in a name is told with the name that was meant, as far as one is near."""
    (found,) = variables([name, "PATH", "BLOCKS_API_KEY"])

    assert (found.level, found.text, found.cure) == ("warning", f"nothing reads {name}", cure)


def test_what_a_handler_needs_is_known() -> None:
    """A variable that the registry asks for is no slip."""
    (found,) = variables(["BLOCKS_OF_MINE"], also=["BLOCKS_OF_MINE"])

    assert found.level == "note"


def test_every_variable_that_is_read_is_known() -> None:
    """The list has exactly the names that the configuration reads."""
    source = Path(blocks_worker.config.__file__).read_text(encoding="utf-8")
    read = re.findall(r'env, "(BLOCKS_\w+)"', source)

    assert set(read) == VARIABLES
