import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks_worker.observability.redact import MAX_FIELD, clean, clean_value, one_line, redact

SECRET = "s3cr3t-value_XYZ"


@pytest.mark.parametrize(
    "text",
    [
        f"GET /v2/subscribe/k/c/0?auth={SECRET}&uuid=me",
        f"signature=v2.{SECRET}&timestamp=1",
        f"https://h/x?token={SECRET}",
        f'{{"accessToken": "{SECRET}", "expiresIn": 3}}',
        f"{{'refreshToken': '{SECRET}'}}",
        f'{{\\"pamToken\\":\\"{SECRET}\\"}}',
        f"Authorization: Bearer {SECRET}",
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"authorization: {SECRET}",
        f"BLOCKS_API_KEY={SECRET}",
        f"api_key: {SECRET}",
        f"apiKey='{SECRET}'",
        f"messageKey={SECRET}",
        f"password: {SECRET}",
        f"readToken={SECRET}",
        f"sent Bearer {SECRET} away",
        f"key bk_{SECRET} was used",
        f"sec-c-{SECRET}",
        f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}",
        f"grant p0F2AkF0{SECRET}",
        f"headers {{b'authorization': b'Bearer {SECRET}'}}",
        f"'http://user:{SECRET}@127.0.0.1:9' is not the address of a hub",
        f"https://:{SECRET}@h/x",
        f"http://me@host.example:{SECRET}/and/more@h",
        f"proxy=//u:12{SECRET}@p@h:1",
    ],
)
def test_a_secret_is_blanked(text: str) -> None:
    """[G8] Wherever and however a secret stands, it is not there afterwards."""
    assert SECRET not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "task_started",
        "max_tokens=5 authors=3",
        "tokens: 12 of 40",
        "the author is here",
        "uuid=AG-echo-1 channel=u.me.t1",
        "bkx bk eyJ",
        "GET http://127.0.0.1:3001/a@b",
        "['http://h:3001', 'me@example.org']",
        "postgresql://me@h:5432/x",
    ],
)
def test_other_text_stays(text: str) -> None:
    """What only looks a little like a secret is left as it is."""
    assert redact(text) == text


def test_the_rest_of_an_address_stays() -> None:
    """Only the value is blanked: the line still tells what happened."""
    assert redact("http://me:abc@h:1/x?y=1") == "http://me:***@h:1/x?y=1"
    assert redact("GET /v2?auth=abc&uuid=me") == "GET /v2?auth=***&uuid=me"


def test_fields_with_a_secret_name_are_blanked() -> None:
    """[G8] A field, however deep, whose name says secret shows nothing."""
    shown = clean_value("detail", {"token": "a", "inner": [{"Authorization": "b", "n": 1}], "apiKey": "c"})

    assert shown == {"token": "***", "inner": [{"Authorization": "***", "n": 1}], "apiKey": "***"}


def test_a_long_field_is_cut() -> None:
    """[H9] A field is bounded, and says how much is missing."""
    shown = clean("x" * 10_000)

    assert len(shown) < MAX_FIELD + 40
    assert "7952 more" in shown


@given(st.text(st.characters()))
def test_nothing_leaves_its_line(text: str) -> None:
    """[H9] Whatever the text holds, it is one printable line."""
    shown = one_line(text)

    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode("utf-8")


@given(st.text(alphabet="auth=token:'\"{}\\ beare\n", max_size=3000))
def test_hostile_text_costs_no_time(text: str) -> None:
    """[K9] Text made to please the patterns is still read in a moment."""
    assert isinstance(redact(text), str)
