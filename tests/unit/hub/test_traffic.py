"""Requests, counted by route and class of status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import FakeClock

from blocks_worker.hub.traffic import Traffic

if TYPE_CHECKING:
    from blocks_worker.observability.spread import Buckets


def test_a_request_is_counted_once_under_few_labels() -> None:
    """Time, route, verb and class of status are told; made-up verbs and addresses are one each."""
    clock = FakeClock()
    traffic = Traffic(clock, ["GET"])
    begun = traffic.now()
    clock.advance(0.02)
    traffic.answered("GET", "/a/{b}", 201, begun)
    traffic.answered("GET", "/a/{b}", 204, clock.monotonic())
    for verb in ("BREW", "PROPFIND"):
        traffic.answered(verb, None, 404, clock.monotonic())
    told: dict[tuple[str, ...], Buckets] = {one.labels: one.value for one in traffic.samples()}  # type: ignore[misc]

    assert {labels: value.total for labels, value in told.items()} == {
        ("GET", "/a/{b}", "2xx"): 2,
        ("(others)", "(others)", "4xx"): 2,
    }
    assert abs(told["GET", "/a/{b}", "2xx"].sum - 0.02) < 1e-9
