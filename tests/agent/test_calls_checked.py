"""Arguments of a call are what the tool declares, or the model is told in a sentence what is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from assistant.agent.toolbox import BadCall, Toolbox
from tests.agent.calling import tools_file

TOOLS = '''
from typing import Annotated, Literal
from pydantic import Field

def tool(
    count: int,
    ratio: float = 1.0,
    name: str = "x",
    sure: bool = False,
    unit: Literal["C", "F"] = "C",
    days: list[int] = [],
    weights: dict[str, float] = {},
    note: str | None = None,
    small: Annotated[int, Field(ge=1, le=9)] = 1,
) -> str:
    """Take many things."""
    return name

def weather(city: str) -> str:
    """Tell the weather."""
    return city

def nothing() -> str:
    """Take nothing."""
    return ""
'''


@pytest.fixture
def box(tmp_path: Path) -> Toolbox:
    """Three tools."""
    return Toolbox.load(tools_file(tmp_path, TOOLS), ())


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"count": 17}, {"count": 17}),
        ({"count": 17.0}, {"count": 17}),
        ({"count": 1, "ratio": 2}, {"count": 1, "ratio": 2.0}),
        ({"count": 1, "days": [1, 2.0], "weights": {"a": 1}}, {"count": 1, "days": [1, 2], "weights": {"a": 1.0}}),
        ({"count": 1, "note": None, "unit": "F"}, {"count": 1, "note": None, "unit": "F"}),
    ],
)
def test_what_fits_is_taken_and_defaults_are_left_to_the_tool(
    box: Toolbox, given: dict[str, Any], taken: dict[str, Any]
) -> None:
    checked = box.validated("tool", given)
    assert checked == taken
    assert type(checked["count"]) is int


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "The argument 'count' of tool is missing."),
        ({"count": "17"}, "The argument 'count' of tool should be a valid integer, and it is \"17\"."),
        ({"count": True}, "should be a valid integer, and it is true."),
        ({"count": 1.5}, "should be a valid integer, and it is 1.5."),
        ({"count": None}, "should be a valid integer, and it is null."),
        ({"count": [1]}, "should be a valid integer"),
        ({"count": 1, "ratio": "2"}, "The argument 'ratio' of tool should be a valid number"),
        ({"count": 1, "name": 5}, "The argument 'name' of tool should be a valid string, and it is 5."),
        ({"count": 1, "sure": 1}, "The argument 'sure' of tool should be a valid boolean"),
        ({"count": 1, "unit": "K"}, "'unit' of tool should be 'C' or 'F', and it is \"K\"."),
        ({"count": 1, "days": "1"}, "The argument 'days' of tool should be a valid list"),
        ({"count": 1, "days": [1, "2"]}, "The argument 'days[1]' of tool should be a valid integer"),
        ({"count": 1, "small": 10}, "The argument 'small' of tool should be less than or equal to 9"),
        ({"count": 1, "other": 2}, "tool has no argument 'other'; its arguments: count, ratio,"),
        ({"count": 1, "name": "x" * 1000, "sure": "y" * 1000}, 'and it is "yyyy'),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(box: Toolbox, given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadCall) as caught:
        box.validated("tool", given)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


def test_every_problem_is_said(box: Toolbox) -> None:
    with pytest.raises(BadCall) as caught:
        box.validated("tool", {"ratio": "x", "colour": 1})
    said = str(caught.value)
    assert all(word in said for word in ("'count' of tool is missing", "'ratio'", "'colour'"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused_wherever_they_are(box: Toolbox, value: float) -> None:
    for given in ({"count": value}, {"count": 1, "ratio": value}, {"count": 1, "weights": {"a": value}}):
        with pytest.raises(BadCall):
            box.validated("tool", given)


def test_a_tool_without_arguments_takes_none(box: Toolbox) -> None:
    assert box.validated("nothing", {}) == {}
    with pytest.raises(BadCall, match="nothing has no argument 'a'; its arguments: it has none"):
        box.validated("nothing", {"a": 1})


def test_arguments_that_are_no_object_are_refused(box: Toolbox) -> None:
    wrong: Any = ["Lisbon"]
    with pytest.raises(BadCall, match="must be an object"):
        box.validated("weather", wrong)


def test_an_unknown_tool_names_the_nearest(box: Toolbox) -> None:
    with pytest.raises(BadCall, match="no tool called 'get_weather'; did you mean weather"):
        box.validated("get_weather", {})
    with pytest.raises(BadCall, match="there are: nothing, tool, weather"):
        box.find("qqqqqqqq")
