from blocks_worker import handler_loader


def test_the_users_names_are_there() -> None:
    """[1.2] The four functions import from the path that users know."""
    names = {"load_registry", "get_available_handlers", "find_handler_entry", "load_handler_function"}

    assert names == set(handler_loader.__all__)
    assert all(callable(getattr(handler_loader, name)) for name in names)
