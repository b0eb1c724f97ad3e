"""What this machine has, asked without torch: for estimates before any worker runs. The worker measures for itself."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

import psutil

from memory.budget import MIB, default_budget
from memory.minilm import encoder_room


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes in bytes; `free_gpu` is None without a GPU."""

    ram: int
    free_gpu: int | None

    @property
    def budget(self) -> int:
        """The budget when nobody sets one."""
        return default_budget(self.free_gpu, self.ram)

    @property
    def itemsize(self) -> int:
        """Bytes of one number in the type models compute in: half precision on a GPU, fp32 on a CPU."""
        return 4 if self.free_gpu is None else 2

    @property
    def encoder(self) -> int:
        """Bytes of a budget that the embedding model may take: it lies in RAM, whatever the language model lies in."""
        return encoder_room() if self.free_gpu is None else 0

    @property
    def device(self) -> str:
        return "CPU" if self.free_gpu is None else "GPU"


def look() -> Machine:
    """This machine, now."""
    return Machine(ram=int(psutil.virtual_memory().total), free_gpu=_free_gpu())


def _free_gpu() -> int | None:
    """Free memory of the first NVIDIA GPU, as its driver's own tool says."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id=0"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    figure = answer.stdout.strip()
    return int(figure) * MIB if answer.returncode == 0 and figure.isdigit() else None
