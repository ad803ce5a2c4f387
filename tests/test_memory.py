"""A lack of memory is recognised, whoever reports it, and refuses one scan."""

from __future__ import annotations

import errno

import pytest
import torch

from alice3d.errors import UserError
from alice3d.memory import NO_MEMORY, lacks_memory, within_memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 17 bytes"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("MPS backend out of memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_a_lack_of_memory_is_a_refusal(error: Exception) -> None:
    assert lacks_memory(error)
    with pytest.raises(UserError, match=NO_MEMORY), within_memory(UserError):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), OSError(errno.ENOENT, "gone"), ValueError("memory")])
def test_other_errors_pass(error: Exception) -> None:
    assert not lacks_memory(error)
    with pytest.raises(type(error)) as caught, within_memory(UserError):
        raise error
    assert caught.value is error


def test_torch_itself_is_recognised() -> None:
    with pytest.raises(UserError, match=NO_MEMORY), within_memory(UserError):
        torch.empty(2**60)
