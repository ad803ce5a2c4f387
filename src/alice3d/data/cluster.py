"""A Dask cluster as an executor, for preparing on many machines."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from alice3d.errors import UserError

CONNECT_SECONDS = 20


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor | None, int]]:
    """The executor of a Dask cluster and its number of threads; (None, 0) for an empty address.

    Args:
        address: of the scheduler, such as tcp://node1:8786. Its workers must have alice3d installed and see the same
            files under the same paths.

    Raises:
        UserError: dask is not installed, nobody answers, or the cluster has no workers.
    """
    if not address:
        yield None, 0
        return
    try:
        from distributed import Client
    except ImportError:
        raise UserError("dask: is not installed; pip install 'alice3d[dask]'") from None
    try:
        client: Any = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"dask: no scheduler answers at {address} ({type(error).__name__})") from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise UserError(f"dask: the cluster at {address} has no workers yet")
        with client.get_executor(pure=False) as executor:
            yield executor, threads
