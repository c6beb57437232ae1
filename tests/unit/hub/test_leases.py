from __future__ import annotations

from blocks_worker.hub.leases import is_lease, lease_for, message_key

SECRET = b"s" * 32


def test_a_lease_is_for_one_run() -> None:
    """The lease of one task, epoch and incarnation is nobody else's."""
    lease = lease_for(SECRET, "t1", 1, "inc1")
    others = [("t2", 1, "inc1"), ("t1", 2, "inc1"), ("t1", 1, "inc2")]

    assert is_lease(SECRET, lease, "t1", 1, "inc1")
    assert not any(is_lease(SECRET, lease, *other) for other in others)
    assert not is_lease(b"x" * 32, lease, "t1", 1, "inc1")


def test_odd_leases_are_refused() -> None:
    """Whatever comes as a lease is compared, not trusted."""
    assert not any(is_lease(SECRET, odd, "t1", 1, "inc1") for odd in ("", "ü", "\ud800", "x" * 100_000))


def test_message_keys_are_apart() -> None:
    """Each incarnation has a key of its own, which is no lease."""
    keys = {message_key(SECRET, "a"), message_key(SECRET, "b"), lease_for(SECRET, "t", 1, "a")}

    assert len(keys) == 3
