from blocks_worker.transports.cursor import Cursor, MemoryCursors, cursor_key


def test_what_was_saved_is_loaded() -> None:
    """A cursor is kept under its key only."""
    cursors = MemoryCursors()
    cursors.save("a", Cursor(1, 2, 3))

    assert cursors.load("a") == Cursor(1, 2, 3)
    assert cursors.load("b") is None


def test_the_key_depends_on_the_set_and_not_on_its_order() -> None:
    """The same channels give the same key, others another."""
    assert cursor_key("o", "s", "u", ["a", "b"]) == cursor_key("o", "s", "u", ["b", "a"])
    assert cursor_key("o", "s", "u", ["a", "b"]) != cursor_key("o", "s", "u", ["a"])
