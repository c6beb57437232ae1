"""What is shared by name: made with the first user, let go with the last."""

from __future__ import annotations

from blocks_worker import StreamRegistry


def test_the_last_user_closes_what_is_shared() -> None:
    """One thing a name, however many use it; it is closed once, with the last of them. [R-20]"""
    closed: list[str] = []
    registry: StreamRegistry[str] = StreamRegistry(close=closed.append)
    made = [registry.acquire("news", user, lambda user=user: f"made by {user}") for user in ("a", "b", "b")]

    assert made == ["made by a"] * 3
    assert (registry.find("news"), registry.ids()) == ("made by a", ["news"])
    assert [registry.release("news", user) for user in ("a", "stranger", "b", "b")] == [False, False, True, False]
    assert closed == ["made by a"]
    assert registry.find("news") is None


def test_a_name_is_free_again_after_its_end() -> None:
    """The next user has another thing made."""
    registry: StreamRegistry[int] = StreamRegistry()
    registry.acquire("news", "a", lambda: 1)
    registry.release("news", "a")

    assert registry.acquire("news", "a", lambda: 2) == 2
