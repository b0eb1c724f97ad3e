"""What a command says while a model is loaded and a text is read, where no bar can be drawn."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from assistant.commands import watch
from assistant.protocol import Loading, Prefill


def test_the_time_left_of_reading_does_not_count_the_loading(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with watch.Watch() as shown:
        for at, event in (
            (1.0, Loading(model="m", done_bytes=50, total_bytes=100)),
            (30.0, Prefill(done=256, total=1256, tok_s=250.0)),
            (31.0, Prefill(done=506, total=1256, tok_s=250.0)),
            (32.0, Prefill(done=756, total=1256, tok_s=250.0)),
        ):
            clock[0] = at
            shown.see(event)
    assert capsys.readouterr().err.splitlines() == [
        "assistant: Reading: 20 % (250 tokens/s)",
        "assistant: Reading: 60 % (250 tokens/s, 2 s left)",
    ]
