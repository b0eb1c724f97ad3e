"""A device that is lost ends the worker with its own exit code; running out of memory does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from assistant.orders import WorkerDone
from assistant.protocol import DEVICE_LOST, Failed
from assistant.worker.device import is_lost
from tests.worker.process import WorkerProcess

BREAKS = """
import torch
from assistant.worker import __main__ as worker
from assistant.worker.engine import Engine

def broken(engine, *_):
    {error}

Engine.{method} = broken
worker.main()
"""


def broken(method: str, error: str) -> tuple[str, ...]:
    """The command of a worker whose engine raises."""
    return sys.executable, "-c", BREAKS.format(method=method, error=error)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), True),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), False),
        (torch.AcceleratorError("CUDA error: out of memory"), False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), False),
        (RuntimeError("shapes do not match"), False),
        (ValueError("CUDA error"), False),
    ],
)
def test_which_errors_lose_the_device(error: Exception, lost: bool) -> None:
    assert is_lost(error) == lost


def test_the_worker_ends_with_the_code_that_says_so(folder: Path) -> None:
    error = "raise torch.AcceleratorError('CUDA error: device-side assert triggered')"
    with WorkerProcess(folder, broken("run", error)) as worker:
        with pytest.raises(AssertionError, match="the worker ended"):
            worker.ask("Hello")
        assert worker.process.wait(20) == DEVICE_LOST


def test_it_also_ends_when_nobody_asked(folder: Path) -> None:
    """Episodes are prepared between requests: an error there would meet the next one."""
    with WorkerProcess(folder, broken("rest", "raise torch.AcceleratorError('CUDA error: unknown error')")) as worker:
        assert isinstance(worker.ask("Hello"), WorkerDone)
        assert worker.process.wait(20) == DEVICE_LOST


def test_another_error_is_an_answer_and_the_worker_stays(folder: Path) -> None:
    with WorkerProcess(folder, broken("run", "raise RuntimeError('shapes do not match')")) as worker:
        answer = worker.ask("Hello")
        assert isinstance(answer, Failed)
        assert "shapes do not match" in answer.message
        assert worker.process.poll() is None
