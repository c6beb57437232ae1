"""Durable steps as they travel: what a run did once under a name, as the bytes of its JSON."""

from __future__ import annotations

from typing import Annotated

import msgspec

from blocks_worker.protocol.codec import MAX_DEPTH, Wire

#: Steps of one task.
MAX_STEPS = 1000
#: Largest value of a step, as JSON.
MAX_STEP = 64 * 1024
#: Longest name of a step, in characters.
MAX_NAME = 128
#: Deepest nesting of a value: a report and its batch lie around it.
STEP_DEPTH = MAX_DEPTH - 4
#: Steps of one report; what is more is the next report.
REPORT_STEPS = 16
#: Bytes of steps that come with the answer to a claim; more are fetched.
INLINE_STEPS = 64 * 1024

StepName = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]


class Step(Wire):
    """What was done under a name in a task."""

    name: StepName
    value: msgspec.Raw


class StepsAnswer(Wire, omit_defaults=False):
    """Stored steps of a task, by their names."""

    steps: list[Step]
    #: More are stored than this answer holds: ask again after the last name.
    more: bool = False
