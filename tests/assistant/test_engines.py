"""What a request leaves open stays as the loaded model has it: a flag left out makes nothing be read twice."""

from __future__ import annotations

import pytest

from assistant.daemon.engine import Engines
from assistant.errors import ModelError, UsageError
from assistant.places import Places
from assistant.protocol import Engine
from assistant.settings import load_settings


@pytest.fixture
def engines(places: Places) -> Engines:
    return Engines(places, load_settings(places=places, model="fake", budget="2GiB"))


def test_the_settings_decide_before_anything_is_loaded(engines: Engines) -> None:
    spec = engines.spec(Engine())
    assert (spec.id, spec.budget, spec.quant) == ("fake", "2GiB", "auto")


def test_a_flag_once_given_holds_while_the_model_stays_loaded(engines: Engines) -> None:
    first = engines.spec(Engine(budget="900MiB", quant="nf4", policy="sinks_recent"))
    assert engines.spec(Engine(), first) == first
    assert engines.spec(Engine(budget="1GiB"), first) == first.model_copy(update={"budget": "1GiB"})


def test_layer_budgets_are_a_setting(places: Places) -> None:
    settings = load_settings(places=places, model="fake", layers="sensitivity", alpha=0.5)
    spec = Engines(places, settings).spec(Engine())
    assert (spec.layers, spec.alpha) == ("sensitivity", 0.5)


def test_another_model_starts_from_the_settings(engines: Engines) -> None:
    other = engines.spec(Engine(budget="900MiB")).model_copy(update={"id": "another"})
    assert engines.spec(Engine(), other).budget == "2GiB"


def test_what_cannot_run_is_said_before_anything_is_stored(engines: Engines) -> None:
    with pytest.raises(UsageError, match="900MiB"):
        engines.spec(Engine(budget="plenty"))
    with pytest.raises(ModelError, match="fake"):
        engines.spec(Engine(model="fakke"))
