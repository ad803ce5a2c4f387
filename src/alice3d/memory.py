"""Work that may not fit into memory, on the processor or on a device: recognised, and refused by name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NO_MEMORY = "does not fit into memory; close other programs, or use a machine with more"
"""Reason of a scan for which memory did not suffice."""
WORDS = (
    *("out of memory", "not enough memory", "allocate memory", "bad_alloc", "bad allocation", "alloc_failed"),
    *("failed to allocate", "could not allocate", "cannot allocate"),
)
"""How torch, CUDA, cuDNN, oneDNN and the C++ library say so; torch has an own type of error for devices alone."""


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return any(word in text for word in WORDS)


@contextmanager
def within_memory(refusal: Callable[[str], Exception]) -> Iterator[None]:
    """Turn a lack of memory into the refusal of the one scan that is worked on.

    Args:
        refusal: makes the error from the reason.

    Raises:
        Exception: what `refusal` makes, where memory does not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not lacks_memory(error):
            raise
        error.__traceback__ = None  # its frames hold the arrays
    else:
        return
    raise refusal(NO_MEMORY)
