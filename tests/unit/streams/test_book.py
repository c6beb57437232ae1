"""The last frames of a writer."""

from __future__ import annotations

from blocks_worker.streams.book import WINDOW, Book


def filled(count: int, size: int) -> Book:
    """Return a book of so many frames, each made a second after the last."""
    book = Book()
    for seq in range(count):
        book.add(seq, {}, size, float(seq))
    return book


def test_the_oldest_go_while_a_whole_window_is_left() -> None:
    """A reader that comes late gets a window at least."""
    book = filled(10, WINDOW // 4)

    assert [entry.seq for entry in book.kept] == [6, 7, 8, 9]


def test_it_knows_what_a_reader_has_not_taken() -> None:
    """Bytes from a number on, and since when the first of them waits; what went counts no more."""
    book = filled(10, WINDOW // 4)

    assert [book.unread(since) for since in (0, 8, 10)] == [WINDOW, WINDOW // 2, 0]
    assert [book.waits_since(seq) for seq in (0, 8, 10)] == [6.0, 8.0, float("inf")]
    assert Book().unread(0) == 0
    assert Book().waits_since(0) == float("inf")


def test_frames_are_found_by_their_numbers() -> None:
    """As far as they are kept."""
    assert [entry.seq for entry in filled(10, WINDOW // 4).find(4, 7)] == [6, 7]
