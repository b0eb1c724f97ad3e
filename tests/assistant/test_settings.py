"""Settings: which source wins, what each value's origin is called, and how a mistake is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.errors import UsageError
from assistant.protocol import Sampling
from assistant.settings import Settings, load_settings
from memory.policy import POLICIES


@pytest.fixture
def project(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder as the working directory, in a home of its own."""
    monkeypatch.delenv("ASSISTANT_MODEL")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_are_those_of_the_wire(project: Path) -> None:
    settings = load_settings()
    assert settings.model == "smollm2-135m"
    assert settings.sampling() == Sampling()
    assert {settings.origin(name) for name in Settings.model_fields} == {"default"}


def test_the_strongest_source_wins_and_is_named(home: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = home / "config" / "config.toml"
    user.write_text("temperature = 0.1\ntop_p = 0.2\ntop_k = 3\nmin_p = 0.4\n")
    own = project / "assistant.toml"
    own.write_text("temperature = 1.1\ntop_p = 0.9\ntop_k = 9\n")
    monkeypatch.setenv("ASSISTANT_TEMPERATURE", "1.5")
    monkeypatch.setenv("ASSISTANT_TOP_P", "0.5")
    settings = load_settings(temperature=2.0)
    assert settings.sampling() == Sampling(temperature=2.0, top_p=0.5, top_k=9, min_p=0.4)
    assert settings.origin("temperature") == "flag --temperature"
    assert settings.origin("top_p") == "environment ASSISTANT_TOP_P"
    assert settings.origin("top_k") == f"project file {own}"
    assert settings.origin("min_p") == f"user file {user}"
    assert settings.origin("seed") == "default"


def test_a_flag_that_was_not_given_decides_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_BUDGET", "900MiB")
    assert load_settings(budget=None).budget == "900MiB"


def test_an_empty_variable_decides_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSISTANT_THREADS", "")
    assert load_settings().threads is None


def test_a_budget_in_a_file_may_be_a_number_of_bytes(project: Path) -> None:
    (project / "assistant.toml").write_text("budget = 943718400\n")
    assert load_settings().budget == "943718400"


def test_an_unknown_key_names_file_key_and_nearest(project: Path) -> None:
    (project / "assistant.toml").write_text('buget = "6GiB"\n')
    with pytest.raises(UsageError, match=r"project file .*assistant\.toml .*'buget'.*nearest known key is 'budget'"):
        load_settings()


def test_an_unknown_flag_names_the_nearest(project: Path) -> None:
    with pytest.raises(UsageError, match=r"'temprature'.*'temperature'"):
        load_settings(temprature=1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 2.5),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("max_tokens", 0),
        ("max_tokens", 32_769),
        ("seed", -1),
        ("block", 0),
        ("queue", 0),
        ("quant", "int3"),
        ("budget", "much"),
        ("budget", "0"),
        ("drain_s", float("inf")),
        ("model", ""),
    ],
)
def test_a_value_out_of_bounds_names_setting_and_origin(project: Path, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"The setting {name} = .*\(flag --{name.replace('_', '-')}\) is not valid"):
        load_settings(**{name: value})


@pytest.mark.parametrize("content", [b"model = \n", b"\xff\xfe", b"[model\n"])
def test_a_file_that_is_not_toml_is_named(project: Path, content: bytes) -> None:
    (project / "assistant.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"assistant\.toml is not valid TOML"):
        load_settings()


def test_a_relative_model_file_is_the_callers(project: Path) -> None:
    assert load_settings(model="file:models/a.gguf").model == f"file:{project}/models/a.gguf"


def test_every_field_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_origin_of_no_field_is_an_error(project: Path) -> None:
    with pytest.raises(KeyError):
        load_settings().origin("nonsense")


def test_sizes_of_the_tiers_are_checked_and_may_be_plain_numbers(project: Path) -> None:
    (project / "assistant.toml").write_text('disk = 5000000\nram = "1GiB"\nspill = false\n')
    settings = load_settings()
    assert (settings.disk, settings.ram, settings.spill) == ("5000000", "1GiB", False)
    (project / "assistant.toml").write_text('disk = "plenty"\n')
    with pytest.raises(UsageError, match=r"disk = 'plenty' .* is not a size"):
        load_settings()


def test_a_mistyped_policy_is_refused_with_the_nearest(project: Path) -> None:
    assert {load_settings(policy=name).policy for name in POLICIES} == set(POLICIES)
    with pytest.raises(UsageError, match=r"policy = 'snapvk' .flag --policy. .* nearest policy is 'snapkv'"):
        load_settings(policy="snapvk")


@pytest.mark.parametrize(("name", "value"), [("mode", "sometimes"), ("kv_codec", "zip"), ("layers", "most")])
def test_mode_and_codec_are_words_of_a_list(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ASSISTANT_{name.upper()}", value)
    with pytest.raises(UsageError, match=f"{name} = '{value}' .environment"):
        load_settings()


def test_a_folder_that_is_gone_is_a_sentence(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match=r"is gone\. Change to another one"):
        load_settings()
