"""A converted GGUF is the same model as the GGUF: same logits, same text splitting, same stops, loaded in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from assistant.errors import ModelError
from assistant.worker.convert import convert
from tests.models import DEFAULT, HIDDEN, real_model_store, write_tiny_gguf


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny GGUF and the folder it was converted to by the command."""
    home = tmp_path_factory.mktemp("convert")
    source, folder = write_tiny_gguf(home / "tiny.gguf"), home / "model"
    run = _convert_command(source, folder)
    assert run.returncode == 0, run.stderr
    shares = [json.loads(line) for line in run.stdout.splitlines()]
    done = [line["done"] for line in shares if "done" in line]
    assert done == sorted(done)
    assert done[-1] == source.stat().st_size
    return source, folder


def _convert_command(source: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assistant.worker.convert", str(source), str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        out, err = child.stdout.read(), child.stderr.read()  # standard input stays open: we are still there
    return subprocess.CompletedProcess(command, child.returncode, out, err)


def test_the_weights_are_those_of_the_gguf(tiny: tuple[Path, Path]) -> None:
    source, folder = tiny
    model, report = _load(folder)
    original = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    ids = torch.tensor([[1, 70, 80, 90, 2, 100]])
    assert not any(report.values())
    torch.testing.assert_close(model(ids).logits, original(ids).logits, atol=1e-5, rtol=0)


def test_tied_weights_are_stored_once_and_the_config_is_plain(tiny: tuple[Path, Path]) -> None:
    _, folder = tiny
    config = json.loads((folder / "config.json").read_text())
    model, _ = _load(folder)
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert (folder / "model.safetensors").stat().st_size < 4 * model.num_parameters() + 16_384


def test_the_stops_are_the_recorded_one_and_the_other_turn_ends(tiny: tuple[Path, Path]) -> None:
    _, folder = tiny
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2, 0]


def test_the_tokenizer_has_the_template_and_splits_digits(tiny: tuple[Path, Path]) -> None:
    _, folder = tiny
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer.encode("naïve 12 🐕")) == "naïve 12 🐕"
    assert "12" not in tokenizer.convert_ids_to_tokens(tokenizer.encode("a12"))
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant"
    assert tokenizer.encode("<|im_end|>") == [2]


def test_half_precision_above_the_limit_keeps_norms_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistant.worker.convert.EXACT_UP_TO", 0)
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    convert(source, tmp_path / "model", lambda _: None)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "float16"
    assert model.model.embed_tokens.weight.dtype is torch.float16
    assert model.model.norm.weight.shape == (HIDDEN,)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all, but longer than a header" * 10])
def test_a_file_that_is_no_gguf_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.gguf cannot be converted"):
        convert(bad, tmp_path / "model", lambda _: None)


def test_a_truncated_gguf_is_refused(tmp_path: Path) -> None:
    whole = write_tiny_gguf(tmp_path / "tiny.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:-20_000])
    run = _convert_command(cut, tmp_path / "model")
    assert run.returncode == 6
    assert "cannot be converted" in json.loads(run.stdout.splitlines()[-1])["error"]


def test_the_default_model_loads_in_seconds_and_ends_its_reply() -> None:
    folder = real_model_store() / DEFAULT
    started = time.monotonic()
    model, report = _load(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert time.monotonic() - started < 20  # 2 s on a quiet machine
    assert not any(report.values())
    question = [{"role": "user", "content": "Reply with one word: what colour is the sky?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    reply = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, do_sample=False)[
        0, ids.shape[1] :
    ]
    assert 1 < len(reply) < 64
    assert tokenizer.decode(reply).endswith("<|im_end|>")


def _load(folder: Path) -> tuple[Any, dict[str, Any]]:
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    return model.eval(), report
