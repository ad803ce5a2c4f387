"""Device, number of threads and precision of computations."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from alice3d.errors import UserError


def resolve_device(device: str, threads: int = 0) -> torch.device:
    """The device of a name; also sets the number of CPU threads.

    Args:
        device: cpu, cuda, cuda:N, mps, or auto (cuda, then mps, then cpu).
        threads: CPU threads; 0 leaves them as they are.

    Raises:
        UserError: unknown or absent device.
    """
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"--device: {device!r} is unknown; use cpu, cuda, cuda:N, mps or auto") from None
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = present.get(chosen.type, 0)
    if (chosen.index or 0) >= count:
        raise UserError(f"--device: {device!r} is not available on this machine; use cpu or auto")
    return chosen


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware; elsewhere it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return any(bool(getattr(torch.cpu, f"_is_{name}_supported", bool)()) for name in ("avx512_bf16", "amx_tile"))
    return False


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Precision of the forward pass: `bf16`, `fp32`, or `auto` (bf16 where the device supports it)."""
    if precision == "bf16" or (precision == "auto" and has_bf16(device)):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
