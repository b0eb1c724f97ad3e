"""What this machine has for the model: the device, its free memory, and what this process really takes of it."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from memory.budget import MIB, default_budget

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_NO_MEMORY = ("out of memory", "ALLOC_FAILED")
"""How the driver and its libraries say it."""
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8


def steady_heap() -> None:
    """Make the C library's heap give back what large temporaries took (glibc; a no-op elsewhere).

    By default freed memory stays in one arena per thread and the threshold for separate mappings grows to 32 MiB: an
    eviction then leaves 100 MiB behind that no plan knows of. Call before the first allocation of size.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if change is not None:
        change(_M_ARENA_MAX, 1)
        change(_M_MMAP_THRESHOLD, MIB)


def pick_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(device: torch.device) -> torch.dtype:
    """bf16 on a GPU that has it, fp16 on one that has not; fp32 on a CPU, where it is the fastest."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def is_lost(error: BaseException) -> bool:
    """Whether the driver has given this process up: any error of the device but that there is no memory left."""
    if isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in _NO_MEMORY):
        return False
    return isinstance(error, torch.AcceleratorError) or (isinstance(error, RuntimeError) and "CUDA error" in str(error))


def standard_budget(device: torch.device) -> int:
    """The budget in bytes when nobody set one."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    return default_budget(free, psutil.virtual_memory().total)


@dataclass(slots=True)
class Gauge:
    """Measures the peak: the allocator's on a GPU; on a CPU the weights plus how far the process grew since loading."""

    device: torch.device
    weights: int = 0
    baseline: int = 0
    marked: bool = False
    """Whether the kernel's high-water mark counts from `loaded` on; else the size at each call is what is known."""
    grown: int = 0
    """Most that the process had grown by when the mark was last set back."""

    def loaded(self, weights: int) -> None:
        """Start measuring: the model is loaded, nothing else is allocated yet."""
        self.weights = weights
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        give_back()
        self.marked = _reset_high_water()
        self.baseline = _resident()

    @contextmanager
    def libraries(self) -> Iterator[None]:
        """What stays of what is loaded inside counts as the tokenizer does: as a library, not as the model's."""
        if self.device.type == "cuda":
            yield
            return
        self.grown, before = self.peak() - self.weights, _resident()
        try:
            yield
        finally:
            give_back()
            self.baseline += max(0, _resident() - before)
            self.marked = self.marked and _reset_high_water()

    def current(self) -> int:
        """Bytes now."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return self.weights + max(0, _resident() - self.baseline)

    def outside(self) -> tuple[int, dict[str, int], int]:
        """(what the system says is in use, what of it `current` does not count, all there is), in bytes.

        Without a GPU it is this process that is asked about, else the whole GPU.
        """
        if self.device.type == "cuda":
            free, capacity = torch.cuda.mem_get_info(self.device)
            kept = torch.cuda.memory_reserved(self.device)
            others = capacity - free - kept
            parts = {"kept by the allocator": kept - self.current(), "other processes and the driver": others}
            return capacity - free, parts, capacity
        libraries = {"Python and libraries": max(0, self.baseline - self.weights)}
        return _resident(), libraries, int(psutil.virtual_memory().total)

    def peak(self) -> int:
        """Bytes at the highest point since `loaded`."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        highest = _high_water() if self.marked else _resident()
        return self.weights + max(self.grown, highest - self.baseline)


def give_back() -> None:
    """Free what was left behind (the GPU's allocator, glibc): room that later tensors would fill unseen."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def _reset_high_water() -> bool:
    """Restart the kernel's mark of this process's highest resident size; False where it cannot be."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _high_water() -> int:
    """Highest resident size since the last reset, in bytes."""
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
