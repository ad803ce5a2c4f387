"""Prefetching loader: threads read samples, whose order and content do not depend on the number of threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

AHEAD = 3
"""Number of batches that are prefetched."""


class Samples(Protocol):
    """Samples by number; the same number gives the same sample in every thread."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Name to array or number, of the same shapes for every index."""
        ...


def collate(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Stack samples along a new first axis."""
    return {key: torch.from_numpy(np.stack([np.asarray(s[key]) for s in samples])) for key in samples[0]}


def batches(samples: Samples, indices: Iterator[list[int]], workers: int) -> Iterator[dict[str, Tensor]]:
    """One batch for each list of sample numbers, in order.

    Threads, not processes: blosc2, scipy and numpy release the interpreter's lock (GIL), and a thread starts at
    once and copies nothing.

    Args:
        samples: source of the samples.
        indices: sample numbers of each batch.
        workers: threads; 0 reads without prefetching.
    """
    if workers == 0:
        for numbers in indices:
            yield collate([samples[i] for i in numbers])
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="samples") as pool:
        waiting: deque[list[Future[dict[str, Any]]]] = deque()
        try:
            for numbers in indices:
                waiting.append([pool.submit(samples.__getitem__, i) for i in numbers])
                if len(waiting) > AHEAD:
                    yield collate([future.result() for future in waiting.popleft()])
            while waiting:
                yield collate([future.result() for future in waiting.popleft()])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
