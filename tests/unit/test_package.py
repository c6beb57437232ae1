import blocks_worker


def test_version_is_told() -> None:
    """The package tells its version."""
    assert blocks_worker.__version__.count(".") == 2
