"""Which device computes, and with how many threads."""

from __future__ import annotations

import torch

from alice3d.errors import UserError


def resolve_device(device: str, threads: int = 0) -> torch.device:
    """The device of a name, and CPU threads set.

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
        raise UserError(f"--device: {device!r} is unknown; take cpu, cuda, cuda:N, mps or auto") from None
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = present.get(chosen.type, 0)
    if (chosen.index or 0) >= count:
        raise UserError(f"--device: {device!r} is not on this machine; take cpu or auto")
    return chosen
