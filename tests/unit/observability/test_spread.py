"""Numbers in buckets."""

from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.observability.spread import Spread


@given(st.lists(st.floats(0, 100)))
def test_a_number_is_in_each_bucket_that_it_is_not_above(numbers: list[float]) -> None:
    """A bucket counts what is at most its bound; all are counted, and their sum is kept."""
    spread = Spread((1, 10, 50))
    for number in numbers:
        spread.note(number)
    told = spread.read()

    assert told.up_to == tuple(sum(number <= bound for number in numbers) for bound in told.bounds)
    assert told.total == len(numbers)
    assert abs(told.sum - sum(numbers)) < 1e-6
