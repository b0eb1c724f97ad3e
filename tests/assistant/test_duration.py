"""The grammar of keep_alive: as ollama reads it, in settings and in requests."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assistant.duration import GRAMMAR, parse_duration
from assistant.errors import UsageError
from assistant.protocol import AskRequest
from assistant.settings import load_settings


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("2h0m10s", 7210),
        ("90", 90),
        ("0", 0),
        ("0s", 0),
        ("-1", math.inf),
        ("-1m", math.inf),
        (90, 90),
        (0, 0),
        (1.5, 1.5),
        (-1, math.inf),
        (" 5m ", 300),
    ],
)
def test_durations(written: str | float, seconds: float) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize("written", ["", "5 m", "m", "5d", "1h-3m", "soon", "nan", "inf", "1e9", "5m!", "9" * 80, "٣m"])
def test_what_is_none_is_a_sentence(written: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 5m"):
        parse_duration(written)


@given(st.from_regex(GRAMMAR, fullmatch=True).filter(lambda text: len(text) <= 64))
def test_what_the_wire_lets_in_is_a_duration(text: str) -> None:
    request = AskRequest.model_validate({"text": "x", "keep_alive": text})
    assert request.keep_alive is not None
    assert parse_duration(request.keep_alive) >= 0


@pytest.mark.parametrize("value", ["5 minutes", "-", [], {}, float("nan"), float("inf"), 1e10, -1e10])
def test_the_wire_refuses_the_rest(value: object) -> None:
    with pytest.raises(ValidationError):
        AskRequest.model_validate({"text": "x", "keep_alive": value})


def test_settings_take_text_and_numbers(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_duration(load_settings().keep_alive) == 1800
    assert parse_duration(load_settings().exit_after) == math.inf
    assert load_settings(keep_alive=90).keep_alive == "90"
    monkeypatch.setenv("ASSISTANT_EXIT_AFTER", "1h")
    assert parse_duration(load_settings().exit_after) == 3600
    with pytest.raises(
        UsageError, match=r"keep_alive = 'soon' \(flag --keep-alive\) is not valid: 'soon' is not a dur"
    ):
        load_settings(keep_alive="soon")
