"""The page about observability: its example, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from blocks_worker import AgentInstanceOptions
from blocks_worker.errors import ConfigurationError
from blocks_worker.testing import LocalStack

PAGE = Path(__file__).parents[2] / "docs/observability.md"


def test_hooks_of_a_users_own_count_his_runs() -> None:
    """The example of the page counts each run by its end, and a hook that raises harms none. [R-54]"""
    (example,) = re.findall(r"```python\n# counting\.py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module: dict[str, Any] = {"__name__": "counting"}
    exec(compile(example, "counting.py", "exec"), module)  # noqa: S102 - the example as people copy it

    class Raising(module["Middleware"]):  # type: ignore[misc]  # known when it runs
        def before_run(self, run: Any) -> None:
            """Fail."""
            raise ValueError(run.task_id)

    options = AgentInstanceOptions(
        agent_name="greet", handler=module["handler"], middleware=[Raising(), module["Counting"]()]
    )
    with LocalStack(options) as stack:
        texts = [stack.run("greet", name).text for name in ("Ada", "Grace")]

    assert texts == ["Good morning, Ada!", "Good morning, Grace!"]
    assert REGISTRY.get_sample_value("greetings_total", {"state": "completed"}) == 2
    REGISTRY.unregister(module["ENDED"])


@pytest.mark.parametrize("wrong", ["counting", [print], object()])
def test_what_is_no_middleware_is_refused(wrong: Any) -> None:
    """Anything else is refused at the start, with what to give."""
    with pytest.raises(ConfigurationError, match="whose class is a Middleware"):
        LocalStack({"greet": {"handler": str, "middleware": wrong}}).__enter__()
