import pytest

from blocks_worker.cli.checks.machine import Need, fits, needs


@pytest.mark.parametrize(
    ("found", "bounds", "expected"),
    [
        ("10.6.1", "<11,>=10.6", True),
        ("10.5.9", "<11,>=10.6", False),
        ("11", "<11,>=10.6", False),
        ("11.0.0", "<11", False),
        ("2.0", "==2.0.0", True),
        ("2", ">2", False),
        ("3.9.1", "<=3.9", False),
        ("0.19.0rc1", ">=0.19", True),
        ("1.0", "", True),
        ("1.0", "~=9.9", True),
    ],
)
def test_a_version_is_held_against_its_bounds(found: str, bounds: str, *, expected: bool) -> None:
    """Numbers are compared part by part, missing parts are zero, and a bound in another form binds nobody."""
    assert fits(found, bounds) is expected


def test_what_only_an_extra_needs_is_left_out() -> None:
    """A library with a condition of the platform may be missing; one of an extra is nobody's concern here."""
    lines = [
        "pyjwt[crypto]>=2.9",
        "pubnub (<11,>=10.6)",
        "uvloop>=0.21; platform_system != 'W'",
        "ruff; extra == 'dev'",
    ]

    assert list(needs(lines)) == [
        Need("pyjwt", ">=2.9", is_optional=False),
        Need("pubnub", "<11,>=10.6", is_optional=False),
        Need("uvloop", ">=0.21", is_optional=True),
    ]
