"""[H1] [H2] [H6] Every reader of what others sent takes it or refuses it in our own words, whatever came."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from fuzzing.decoding import message_of, play
from fuzzing.examples import checked, wires
from fuzzing.networked import networked
from fuzzing.targets import targets
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzzing.targets import Target

#: Messages for each reader here; ./scripts/fuzz plays millions.
SHORT = 120
#: Readers by name: what is there is known without a folder or a loop only when it is asked for by name.
NAMES = [
    *("codec: any struct", "codec: converted", "control: signed", "control: content", "events: of a worker"),
    *("events: of a session", "link: to the hub", "link: from the hub", "cards", "hub: batches", "hub: parts"),
    *("hub: card", "network: payload", "client: answers", "client: batches", "client: CDM", "client: token endpoint"),
    *("worker: start body", "worker: control message", "artifact", "network: poll", "network: envelope"),
    *("stream: frames", "file: spool", "file: .env", "file: registry.json", "file: agent-card.json", "file: hub.json"),
    *("token: as text", "token: signed by the hub", "token: header", "grant: as text", "network: HTTP"),
    *("network: published", "link: the hub's end", "link: the client's end"),
]


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    """Give every reader by its name."""
    folder = tmp_path_factory.mktemp("fuzzed")
    nets, loop = networked(folder)
    logging.disable(logging.CRITICAL)
    yield {each.name: each for each in [*targets(folder), *nets]}
    logging.disable(logging.NOTSET)
    loop.close()


def test_every_reader_is_played_at(readers: dict[str, Target]) -> None:
    """A reader that is added is played at here too, and none is left out."""
    assert list(readers) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_bent_message_is_taken_or_refused(readers: dict[str, Target], name: str) -> None:
    """[H1] [H2] [H6] Seeded messages, many of them JSON of another shape: no other exception, none takes a second."""
    tally = play(readers[name], seed=1, messages=SHORT)

    assert tally.crashes == [], "\n".join(map(str, tally.crashes))
    assert tally.refused + tally.accepted == SHORT


def test_much_of_what_is_played_is_json(readers: dict[str, Target]) -> None:
    """[H6] What stops at the first byte proves little: of all more than a third are JSON, and some are taken."""
    tallies = [play(each, seed=2, messages=20) for each in readers.values()]

    assert sum(each.as_json for each in tallies) * 3 > sum(each.messages for each in tallies)
    assert sum(each.accepted for each in tallies) * 10 > sum(each.messages for each in tallies)


@pytest.mark.parametrize("name", NAMES)
def test_a_good_message_is_taken(readers: dict[str, Target], name: str) -> None:
    """Each sample of which messages are made is taken as it is: the reader under the mutations is really reached."""
    for sample in readers[name].samples:
        if not sample.startswith(b'{"code"'):
            readers[name].feed(sample)


def test_a_message_can_be_had_again(readers: dict[str, Target]) -> None:
    """Target, seed and number name the bytes."""
    target = readers["cards"]

    assert [message_of(target, 3, number) for number in range(50)] == [message_of(target, 3, n) for n in range(50)]
    assert len({message_of(target, 3, number) for number in range(50)}) > 25


def test_every_struct_that_travels_has_its_example() -> None:
    """What is added to protocol/ is fuzzed from then on."""
    assert all(checked(kind) for kind in wires())
    assert len(wires()) > 70


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8)
_KEYS = st.sampled_from(["type", "taskId", "epoch", "b", "v", "n", "from", "t", "m", "c", "events", "card", "io"])
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=5), max_leaves=15
)


@settings(derandomize=True, max_examples=60)
@given(value=_VALUES, noise=st.binary(max_size=40))
def test_what_hypothesis_thinks_of_is_taken_or_refused(readers: dict[str, Target], value: Any, noise: bytes) -> None:
    """[H1] [H3] [H4] Any value as JSON, NaN and half characters among it, and any bytes, at every reader."""
    for target in readers.values():
        for message in (json.dumps(value).encode(), noise):
            try:
                target.feed(message)
            except target.refusals:
                continue
