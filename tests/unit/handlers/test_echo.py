from typing import Any

import pytest

from blocks_worker.context.messages import StartTaskMessage
from blocks_worker.handlers.echo import handler


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([{"partId": "text", "text": "Hello"}], "Hello"),
        ([{"partId": "a", "n": 1}, {"partId": "b", "text": "second"}], "second"),
        ([{"partId": "a", "n": 1}], '[{"partId": "a", "n": 1}]'),
        ([{"text": ""}], ""),
        (["bare", 3], '["bare", 3]'),
        ([], "[]"),
    ],
)
def test_echo_says_it_back(parts: Any, said: str) -> None:
    """[2.12] echo answers with the first text, else with all parts as JSON."""
    artifact = {"data": f"Echoed request: {said}", "mimeType": "text/plain"}

    assert handler(StartTaskMessage(request_parts=parts)) == {"artifacts": [artifact]}
