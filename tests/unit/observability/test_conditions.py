"""What has to hold, told as one answer."""

import json

import pytest

from blocks_worker.observability.conditions import Condition, verdict


@pytest.mark.parametrize(("is_met", "status"), [(True, 200), (False, 503)])
def test_one_condition_that_fails_is_named(is_met: bool, status: int) -> None:
    """The answer is 503 as soon as one condition does not hold, and says which."""
    code, body = verdict([Condition("a", is_met=True, says="fine"), Condition("b", is_met=is_met, says="so so")])

    assert code == status
    assert [(one["name"], one["ok"]) for one in json.loads(body)["conditions"]] == [("a", True), ("b", is_met)]
