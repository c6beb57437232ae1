"""What may stand in a log: text without secrets, without control characters, and not without end. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

#: Characters of one field; what is longer is cut and says so.
MAX_FIELD = 2048
#: Depth and items of a nested field; a log line is no dump.
_MAX_DEPTH, _MAX_ITEMS = 4, 50
_BLANK = "***"

_SENSITIVE = r"(?:\w*(?:token|secret|signature|passw(?:or)?d|api_?key|message_?key|cookie)|auth|authorization)"
#: ``auth=…`` in an address, ``"accessToken": "…"`` in JSON, ``'Authorization': 'Bearer …'`` in a repr.
_PAIR = re.compile(
    rf"""(?ix) (?<![a-z]) (?P<name>{_SENSITIVE}) (?P<sign> \\?["']? \s* [:=] \s*)
    (?: (?P<quote> b?\\?["']) (?: (?!\\?["']) . )* | (?:bearer|basic)\s+\S+ | [^\s"',;&)}}\]>]+ )""",
    re.DOTALL,
)
#: Secrets that are known by their own look, wherever they stand.
_KNOWN = re.compile(
    r"""(?x) (?<![A-Za-z0-9]) (?:
      (?:bk_|sec-c-)[A-Za-z0-9_-]+                            # our API keys, the network's secret keys
    | eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?  # JSON web tokens
    | (?:p0F2|qEF2)[A-Za-z0-9_/+=%-]{8,}                      # grants of the network
    )"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")
#: The password before a host, in an address that can be one or not: a port is none. No longer than anybody's is.
_PASSWORD = re.compile(r"(?P<user>//[^\s/?#:\"'<>]{0,256}):(?!\d{1,5}(?:[/?#\s,;)\]}\"']|$))[^\s<>]{0,1024}@")
_IS_SECRET = re.compile(rf"(?i){_SENSITIVE}\Z")
#: C0, DEL and C1 (ANSI sequences begin with one), line and paragraph separators, bidi controls, surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


#: A name, a word or an id: only the look of a known secret could be one in it.
_WORD = re.compile(r"[A-Za-z0-9_-]{0,64}\Z")


def redact(text: str) -> str:
    """Return the text with every secret in it blanked."""
    text = without_password(text)
    text = _PAIR.sub(lambda found: f"{found['name']}{found['sign']}{found['quote'] or ''}{_BLANK}", text)
    text = _BEARER.sub(rf"\1 {_BLANK}", text)
    return _KNOWN.sub(_BLANK, text)


def without_password(text: str) -> str:
    """Return the text with the passwords blanked that stand in its addresses."""
    return _PASSWORD.sub(rf"\g<user>:{_BLANK}@", text)


def one_line(text: str) -> str:
    """Return the text with control characters written out, so that it stays on its line and paints nothing."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def short(text: str, limit: int = MAX_FIELD) -> str:
    """Return the text, or its beginning and how much was cut."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more)"


def clean(text: str) -> str:
    """Return the text as it may stand in one field."""
    if _WORD.match(text) and not _KNOWN.search(text):
        return text
    # Cut twice: a secret is recognised before the cut, and an endless text is not searched through.
    return one_line(short(redact(text[: 8 * MAX_FIELD]))) + ("…" if len(text) > 8 * MAX_FIELD else "")


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _IS_SECRET.match(name) is not None


def clean_value(name: str, value: object, depth: int = 0) -> Any:
    """Return a field as it may be written: numbers and truth values as they are, the rest as clean text."""
    if value is not None and _is_secret(name):
        return _BLANK
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth < _MAX_DEPTH and isinstance(value, dict):
        pairs = list(value.items())[:_MAX_ITEMS]
        return {clean(str(key)): clean_value(str(key), item, depth + 1) for key, item in pairs}
    if depth < _MAX_DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        return [clean_value(name, item, depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return clean(str(value))
