"""A thread for work beside the model: torch's operations on it stay on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch


def lone_thread(name: str) -> ThreadPoolExecutor:
    """An executor of one thread whose torch operations start no team of their own.

    A second team of OpenMP threads would make the model's own go to sleep between operations: decoding a restored
    conversation took twice as long after the first row was sealed.
    """
    thread, threads = ThreadPoolExecutor(1, thread_name_prefix=name), torch.get_num_threads()
    thread.submit(torch.get_num_threads).result()  # torch sets a thread up at its first call, whatever was asked for
    thread.submit(torch.set_num_threads, 1).result()
    torch.set_num_threads(threads)
    return thread
