"""A Dask cluster as an executor, for preparing on many machines."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from alice3d.errors import UserError

CONNECT_SECONDS = 20


def _check_address(address: str) -> None:
    """Refuse what can be no scheduler: a client that failed on it would hang for long when it is thrown away.

    Raises:
        UserError: no transport of dask's, no host and port, or TLS without certificates.
    """
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend
    from distributed.security import Security

    security: Any = Security
    try:
        scheme, location = parse_address(address)
        get_backend(scheme)
        host, _ = parse_host_port(location)
    except (ValueError, TypeError):
        host = ""
    if not host:
        raise UserError(f"dask: {address!r} is no address of a scheduler; write tcp://HOST:PORT, port 8786 as a rule")
    if scheme in ("tls", "wss") and security().get_connection_args("client").get("ssl_context") is None:
        raise UserError(f"dask: {address} needs certificates; name them in dask's configuration (distributed.comm.tls)")


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor | None, int]]:
    """The executor of a Dask cluster and its number of threads; (None, 0) for an empty address.

    Args:
        address: of the scheduler, such as tcp://node1:8786. Its workers must have alice3d installed and see the same
            files under the same paths.

    Raises:
        UserError: dask is not installed, no such address, nobody answers, or the cluster has no workers.
    """
    if not address:
        yield None, 0
        return
    try:
        from distributed import Client
    except ImportError:
        raise UserError("dask: is not installed; pip install 'alice3d[dask]'") from None
    _check_address(address)
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
