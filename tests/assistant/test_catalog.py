"""The catalogue: finding a model by whatever name a user has for it, and saying what to do when it is not here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assistant.catalog import Catalog, load_catalog
from assistant.errors import Exit, ModelError, UsageError
from assistant.fit import HALVES, fits, verdict, weight_bytes
from assistant.places import Places
from assistant.source import parse_source
from memory.budget import GIB, MIB
from tests.models import store_places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return store_places(tmp_path)


@pytest.fixture
def catalog(places: Places) -> Catalog:
    return load_catalog(places)


def user_catalog(places: Places, text: str) -> Catalog:
    places.config.mkdir(parents=True, exist_ok=True)
    places.user_catalog.write_text(text)
    return load_catalog(places)


def put_model(folder: Path, source: str | None = None) -> Path:
    """A folder that looks like a model to everything that does not load it."""
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    if source:
        (folder / "assistant.json").write_text(json.dumps({"source": source}))
    return folder


def test_every_entry_has_a_geometry_that_gives_its_parameters(catalog: Catalog, places: Places) -> None:
    for entry in catalog.entries.values():
        shape = entry.shape(places)
        assert shape is not None
        assert entry.parameters == pytest.approx(shape.parameters, rel=0.15 if "gemma" in entry.id else 1e-5), entry.id
        assert entry.context == shape.window


def test_only_what_our_tests_ran_is_marked_tested(catalog: Catalog) -> None:
    assert [entry.id for entry in catalog.entries.values() if entry.tested] == ["smollm2-135m"]


@pytest.mark.parametrize("name", ["smollm2-135m", "smollm2", "SMOLLM2-135m-instruct"])
def test_ids_and_aliases_find_the_entry(catalog: Catalog, name: str) -> None:
    assert catalog.find(name).id == "smollm2-135m"


def test_a_source_of_an_entry_finds_that_entry(catalog: Catalog) -> None:
    assert catalog.find("hf:Qwen/Qwen3-8B").id == "qwen3-8b"


@pytest.mark.parametrize(
    ("name", "near"), [("smolm2", "smollm2-135m"), ("qwen3-8", "qwen3-8b"), ("zzzz", "gemma-3-4b")]
)
def test_an_unknown_id_names_the_nearest(catalog: Catalog, name: str, near: str) -> None:
    with pytest.raises(ModelError, match=rf"no model '{name}'.*{near}") as caught:
        catalog.find(name)
    assert caught.value.exit_code == Exit.MODEL


def test_a_path_without_the_word_file_is_explained(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"write: file:{tmp_path}"):
        catalog.find(str(tmp_path))


def test_an_absent_model_says_which_command_gets_it(catalog: Catalog, places: Places) -> None:
    with pytest.raises(ModelError, match=r"'smollm2-135m' \(89 MiB\) .* Run: assistant models pull smollm2-135m$"):
        catalog.require(catalog.find("smollm2"), places)


def test_a_source_becomes_an_entry_that_is_not_tested(catalog: Catalog, places: Places, tmp_path: Path) -> None:
    entry = catalog.find(f"file:{tmp_path}/my model.gguf")
    assert not entry.tested
    assert entry.folder(places).parent == places.models
    assert entry.folder(places) != catalog.find(f"file:{tmp_path}/my_model.gguf").folder(places)
    with pytest.raises(ModelError, match="does not exist"):
        catalog.require(entry, places)


def test_a_model_folder_is_used_in_place(catalog: Catalog, places: Places, tmp_path: Path) -> None:
    folder = put_model(tmp_path / "mine")
    assert catalog.require(catalog.find(f"file:{folder}"), places) == folder


def test_a_folder_without_weights_is_no_model(catalog: Catalog, places: Places, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model folder"):
        catalog.require(catalog.find(f"file:{tmp_path}"), places)


def test_a_gguf_that_changed_is_not_the_one_converted(catalog: Catalog, places: Places, tmp_path: Path) -> None:
    gguf = tmp_path / "a.gguf"
    gguf.write_bytes(b"one")
    entry = catalog.find(f"file:{gguf}")
    folder = put_model(entry.folder(places))
    stamp = [gguf.stat().st_size, gguf.stat().st_mtime_ns]
    (folder / "assistant.json").write_text(json.dumps({"source": str(entry.origin), "stamp": stamp}))
    assert entry.present(places)
    gguf.write_bytes(b"another")
    assert not entry.present(places)
    with pytest.raises(ModelError, match=r"not converted yet\. Run: assistant models pull file:"):
        catalog.require(entry, places)
    gguf.unlink()
    assert entry.present(places)


def test_a_users_entry_overrides_ours_and_hides_a_model_of_another_source(places: Places) -> None:
    put_model(places.models / "smollm2-135m", load_catalog(places).find("smollm2").source)
    assert load_catalog(places).find("smollm2").present(places)
    catalog = user_catalog(places, '[smollm2-135m]\nsource = "hf:me/mine@v2"\n')
    assert catalog.find("smollm2-135m").source == "hf:me/mine@v2"
    assert not catalog.find("smollm2-135m").present(places)


def test_a_relative_file_in_a_users_catalogue_lies_beside_it(places: Places) -> None:
    catalog = user_catalog(places, '[mine]\nsource = "file:models/a.gguf"\n')
    assert catalog.find("mine").origin.path == str(places.config / "models/a.gguf")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a]\nlicence = 'x'\n", "'a': it needs a line source"),
        ("[a]\nsource = 'ftp:x'\n", "'a': 'ftp:x' is not a model source"),
        ("[a]\nsource = 'hf:b/c'\nlicense = 'x'\n", "'a': license: .* nearest known key is 'licence'"),
        ("[a]\nsource = 'hf:b/c'\nsha256 = 'x'\n", "'a': sha256: "),
        ("[Big]\nsource = 'hf:b/c'\n", "'Big': an id is made of"),
        ("[a\n", "cannot be read"),
    ],
)
def test_a_mistake_in_a_users_catalogue_names_file_entry_and_key(places: Places, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=rf"models\.toml.*{problem}"):
        user_catalog(places, text)


@pytest.mark.parametrize("text", ["pypi:name#path", "pypi:a==1", "hf:only", "hf:a/b@", "file:", "hf:a/b c"])
def test_a_broken_source_is_refused_with_the_known_forms(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a model source\. Write pypi:"):
        parse_source(text)


def test_the_list_shows_what_was_pulled_without_an_entry(catalog: Catalog, places: Places) -> None:
    put_model(places.models / "b@12345678", "hf:a/b@main")
    statuses = {status.id: status for status in catalog.statuses(places, "smollm2")}
    assert statuses["smollm2-135m"].default
    assert not statuses["smollm2-135m"].present
    assert "hf:a/b@main" in statuses


def test_the_fit_says_what_a_budget_leaves(catalog: Catalog, places: Places) -> None:
    shape = catalog.find("qwen3-8b").shape(places)
    assert shape is not None
    found = {fit.quantisation: fit for fit in fits(shape, 12 * GIB, 2, 256)}
    assert not found["bf16"].fits
    assert found["nf4"].fits
    assert found["nf4"].total <= 12 * GIB
    assert found["nf4"].kv_tokens > found["int8"].kv_tokens > 0
    assert "fits if loaded as int8" in verdict(list(found.values()), 12 * GIB)
    assert weight_bytes(shape, "nf4", 2) < weight_bytes(shape, "int8", 2) < weight_bytes(shape, "bf16", 2)


def test_the_fit_names_the_smallest_budget_that_works(catalog: Catalog, places: Places) -> None:
    shape = catalog.find("smollm2").shape(places)
    assert shape is not None
    found = fits(shape, 64 * MIB, 4, 256)
    least = next(fit for fit in found if fit.quantisation == "nf4")
    assert f"no: 64 MiB is too small; the smallest budget that works is {least.smallest_budget // MIB}MiB" in verdict(
        found, 64 * MIB
    )
    assert next(fit for fit in fits(shape, least.smallest_budget, 4, 256) if fit.quantisation == "nf4").fits


def test_the_catalogue_and_the_commands_import_no_torch() -> None:
    code = "import assistant.commands.models, assistant.commands.config, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_an_entry_may_name_a_server_and_where_its_key_lies(places: Places) -> None:
    catalog = user_catalog(
        places,
        '[big]\nsource = "openai:http://gpu:8000#org/Big-Model"\nkey_file = "big.key"\ncontext = 32768\n'
        '[any]\nsource = "openai:https://gpu.example/api/v1/"\nkey_env = "BIG_KEY"\n',
    )
    big, any_model = catalog.find("big").server, catalog.find("any").server
    assert big is not None
    assert any_model is not None
    assert (big.url, big.model, big.context) == ("http://gpu:8000/v1", "org/Big-Model", 32768)
    assert big.key_file == str(places.config / "big.key"), "beside the catalogue"
    assert (any_model.url, any_model.model, any_model.key_env) == ("https://gpu.example/api/v1", "", "BIG_KEY")
    assert catalog.find("openai:http://gpu:8000/v1#org/Big-Model").id == "big"
    assert catalog.find("smollm2-135m").server is None


@pytest.mark.parametrize(
    "source", ["openai:ftp://x/v1", "openai:http://", "openai:http://user:word@x/v1", "openai:gpu:8000", "openai:"]
)
def test_an_address_that_is_none_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="is not a model source"):
        parse_source(source)


def test_the_verdict_is_about_what_was_asked(catalog: Catalog, places: Places) -> None:
    shape = catalog.find("llama-3.2-3b").shape(places)
    assert shape is not None
    fp16, fp32 = (
        next(fit for fit in fits(shape, 8 * GIB, 4, 256) if fit.quantisation == name) for name in ("fp16", "fp32")
    )
    between = (fp16.smallest_budget + fp32.smallest_budget) // 2
    found = fits(shape, between, 4, 256)
    assert verdict(found, between, "none").startswith("no: ")
    assert "with --quant none" in verdict(found, between, "none")
    assert verdict(found, between).startswith("fits: ")
    assert "--quant fp16" in verdict(fits(shape, between, 2, 256), between, "fp16")
    assert verdict(fits(shape, 16 * GIB, 2, 256), 16 * GIB, "none").startswith("fits: bf16")


@pytest.mark.skipif(not HALVES, reason="a CPU that is not x86")
def test_auto_on_a_cpu_is_fp16_and_never_fp32(catalog: Catalog, places: Places) -> None:
    shape = catalog.find("llama-3.2-3b").shape(places)
    assert shape is not None
    chosen = [fit.quantisation for fit in fits(shape, 64 * GIB, 4, 256) if fit.loads("auto")]
    assert chosen == ["fp16", "int8", "nf4"]
    assert weight_bytes(shape, "fp16", 4) < 0.6 * weight_bytes(shape, "fp32", 4)
