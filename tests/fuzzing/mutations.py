"""Messages made from good ones by a seeded source: half of them still JSON whose shape is wrong, half spoilt bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

#: What takes the place of a value: each type, its edges, and texts that somebody may stumble over.
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 255, 2**31, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1),
    *(0.0, -0.0, 0.5, 1e-320, 1e308, -1.5),
    *("", " ", "a", "0", "-1", "null", "true", "1e9", "é", "\N{PILE OF POO}", "\ud800", "\udfff", "a\udc00b"),
    *("\0", "a\0b", "\r\n", "\x1b[2J", "\u2028", "\u202e", "../../x", "%2e%2f", "{}", "[", '"', "\\", "'; --", "${x}"),
    *("x" * 65, "x" * 300, "é" * 200, "x" * 5000, "A" * 4096 + "==", "0" * 64, "1" * 19, "9" * 20, "٣"),
    *([], {}, [[]], [{}], {"": ""}, {"type": "x"}, [None], [0] * 50, {"a": {"b": {"c": []}}}),
]  # fmt: skip
#: Literals that no Python value gives, written where this mark stands in the text.
_MARK, _TWICE = "\uf8ffmark", "\uf8fftwice"
LITERALS = [
    *("NaN", "Infinity", "-Infinity", "1e400", "-1e999", "1E+9999", "0e0", "-0", "1.0", "1e2", "0.1e-400", "01", "+1"),
    *("1" + "0" * 20, "9" * 400, "9" * 401, "9" * 5000, "-" + "9" * 399, "0." + "3" * 500, "tru", "undefined", "'x'"),
    *("/**/1", "\\u0000", '"\\ud800"', '"\\ud83d"', '"\\x"', '"\t"', "1,", ",", "[1,]", '{"a":1,}', "{,}"),
]  # fmt: skip
DEPTHS = [*[2, 10, 30, 60, 63, 64, 65, 66, 130] * 6, 1500, 20_000]
_BYTES = [
    *(b"", b"\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xfe\xff", b"\r\n"),
    *(b"\n", b"\r", b"\t", b" ", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"[" * 100, b"9" * 25, b"%00"),
    *(b'\\"' * 4000, b"[" * 70 + b'\\"' * 4000, b"_" * 3000, b"0" * 3000),
]  # fmt: skip
_CODINGS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7", "cp037", "latin-1"]
#: Bytes of the longest sample of which a message is made many times as long.
_LONG = 2000
#: Bytes of the longest message, nearly: beyond the largest limit that anybody has.
MOST_BYTES = 3 * 1024 * 1024


class Mutator:
    """Make messages; the same source gives the same ones."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._acts: list[Callable[[Any, list[Any]], None]] = [
            *[self._other_value] * 6,
            *[self._drop] * 3,
            *[self._rename] * 2,
            self._wrap,
            self._repeat,
            self._swap,
            *[self._mark] * 2,
            self._twice,
        ]

    def message(self, samples: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
        """Return a message made from one of the samples; `words` are what its language is made of."""
        sample = self._source.choice(samples)
        if self._source.random() < 0.7:
            try:
                return self._bent(json.loads(sample), samples)
            except (ValueError, RecursionError):
                pass
        return self._spoilt(sample, samples, words)

    # ------------------------------------------------------------------ JSON of another shape
    def _bent(self, value: Any, samples: Sequence[bytes]) -> bytes:
        root = [value]
        for _ in range(self._source.choice((1, 1, 1, 2, 3, 6))):
            self._source.choice(self._acts)(root, _places(root))
        if self._source.random() < 0.05:
            place = self._source.choice(_places(root))
            place[0][place[1]] = _loaded(self._source.choice(samples))
        text = json.dumps(root[0], ensure_ascii=self._source.random() < 0.8)
        return self._encoded(self._marked(text))

    def _marked(self, text: str) -> str:
        for mark in (_MARK, _TWICE):
            for written in (json.dumps(mark), json.dumps(mark, ensure_ascii=False)):
                if written in text:
                    literal = self._literal() if mark == _MARK else self._key_of(text)
                    most = MOST_BYTES // text.count(written)
                    text = text.replace(written, literal if len(literal) < most else "NaN")
        return text

    def _key_of(self, text: str) -> str:
        """Return a key that the text has already, or nearly one."""
        keys = [part.rpartition('"')[2] for part in text.split('":')[:-1]]
        return f'"{self._source.choice([key for key in keys if not key.endswith("twice")] or ["a"])}"'

    def _literal(self) -> str:
        if self._source.random() < 0.4:
            depth = self._source.choice(DEPTHS)
            return "[" * depth + "]" * depth if self._source.random() < 0.5 else '{"a":' * depth + "1" + "}" * depth
        return self._source.choice(LITERALS)

    def _encoded(self, text: str) -> bytes:
        if self._source.random() < 0.97:
            return text.encode("utf-8", errors="surrogatepass")
        return text.encode(self._source.choice(_CODINGS), errors="replace")

    def _other_value(self, root: Any, places: list[Any]) -> None:  # noqa: ARG002 - all acts are called alike
        holder, key = self._source.choice(places)
        holder[key] = _copied(self._source.choice(VALUES))

    def _drop(self, root: Any, places: list[Any]) -> None:
        holder, key = self._source.choice(places)
        if holder is not root:
            del holder[key]

    def _rename(self, root: Any, places: list[Any]) -> None:  # noqa: ARG002
        holder, key = self._source.choice(places)
        if isinstance(holder, dict):
            other = self._source.choice(places)[1]
            holder[other if isinstance(other, str) and self._source.random() < 0.5 else f"{key}x"] = holder.pop(key)

    def _wrap(self, root: Any, places: list[Any]) -> None:  # noqa: ARG002
        holder, key = self._source.choice(places)
        holder[key] = [holder[key]] if self._source.random() < 0.5 else {str(key): holder[key]}

    def _repeat(self, root: Any, places: list[Any]) -> None:  # noqa: ARG002
        holder, key = self._source.choice(places)
        if isinstance(holder[key], list) and len(str(holder[key])) < _LONG:
            holder[key] = holder[key] * self._source.choice((0, 2, 3, 100))

    def _swap(self, root: Any, places: list[Any]) -> None:
        (one, key), (other, name) = self._source.choice(places), self._source.choice(places)
        if root not in (one, other) and isinstance(one, type(other)):
            one[key], other[name] = _copied(other[name]), _copied(one[key])

    def _mark(self, root: Any, places: list[Any]) -> None:  # noqa: ARG002
        holder, key = self._source.choice(places)
        holder[key] = _MARK

    def _twice(self, root: Any, places: list[Any]) -> None:  # noqa: ARG002
        holder, _ = self._source.choice(places)
        if isinstance(holder, dict):
            holder[_TWICE] = _copied(self._source.choice(VALUES))

    # ------------------------------------------------------------------ bytes
    def _spoilt(self, sample: bytes, samples: Sequence[bytes], words: Sequence[bytes]) -> bytes:
        data = bytearray(sample)
        for _ in range(self._source.choice((1, 1, 2, 4, 8))):
            self._spoil(data, samples, words)
        return bytes(data)

    def _spoil(self, data: bytearray, samples: Sequence[bytes], words: Sequence[bytes]) -> None:
        source = self._source
        at = source.randrange(len(data) + 1)
        match source.randrange(8):
            case 0:
                del data[at:]
            case 1:
                del data[at : at + source.choice((1, 2, 8, 64))]
            case 2 if at < len(data):
                data[at] = source.randrange(256)
            case 3 if at < len(data):
                data[at] ^= 1 << source.randrange(8)
            case 4:
                data[at:at] = source.choice([*_BYTES, *words])
            case 5:
                end = at + source.choice((1, 4, 16, 64))
                data[at:at] = data[at:end] * source.choice((1, 2, 50))
            case 6:
                other = source.choice(samples)
                data[at:] = other[source.randrange(len(other) + 1) :]
            case _:
                data[at:at] = source.randbytes(source.choice((1, 2, 4, 16)))


def _places(root: list[Any]) -> list[Any]:
    """Return every place of a value, as who holds it and under which key."""
    found: list[Any] = []
    waiting: list[Any] = [root]
    while waiting:
        holder = waiting.pop()
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            found.append((holder, key))
            if isinstance(value, (dict, list)):
                waiting.append(value)
    return found


def _copied(value: Any) -> Any:
    """Return a copy: what is changed must not change elsewhere, or come to hold itself."""
    return json.loads(json.dumps(value)) if isinstance(value, (dict, list)) else value


def _loaded(sample: bytes) -> Any:
    try:
        return json.loads(sample)
    except (ValueError, RecursionError):
        return None
