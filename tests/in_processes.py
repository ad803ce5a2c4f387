"""Small trainings in processes of their own: killed at will, or several together as torchrun starts them.

A fork server imports torch once, so that a process costs a tenth of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from alice3d.engine.log import read_log

SMALL = {
    "steps": 24,
    "batch": 2,
    "crop": 16,
    "checkpoint_every": 5,
    "threads": 1,
    "points": 16,
    "candidates": 32,
    "monitor_every": 10,
    "device": "cpu",
    "precision": "fp32",
    "backbone_options": {"widths": [4, 6, 8, 12], "blocks": [1, 1, 1]},
    "options": {
        "decoder_width": 12,
        "decoder_heads": 2,
        "casa_heads": 2,
        "prototypes": 8,
        "hidden": 8,
        "bottleneck": 8,
    },
}
"""`alice pretrain` in a second."""
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    [
        "torch._dynamo",  # what the first step of an optimiser imports
        "torch.nn.parallel",
        "alice3d.commands.pretrain",
        "alice3d.pretraining.job",
        "alice3d.methods.alice",
        "alice3d.methods.mae",
        "alice3d.report.run_page",
    ]
)


def pretrain(store: Path, out: Path, changes: Mapping[str, Any]) -> None:
    """`alice pretrain STORE OUT` with the small settings and `changes`."""
    from alice3d.commands.pretrain import run
    from alice3d.pretraining.settings import PretrainConfig

    run(PretrainConfig.checked({"store": store, "out": out, **SMALL, **changes}, "test"))


def pretrain_on_a_full_disk(store: Path, out: Path, changes: Mapping[str, Any], room: int) -> None:
    """`pretrain` where no file may grow beyond `room` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    pretrain(store, out, changes)


def _within(
    environment: Mapping[str, str], errors: Path, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    try:
        work(*arguments)
    except BaseException as error:
        if not (isinstance(error, SystemExit) and error.code in (0, None)):
            errors.write_text(f"{error}\n\n{traceback.format_exc()}")
            raise


def begin(
    work: Callable[..., None], *arguments: Any, errors: Path, environment: Mapping[str, str] | None = None
) -> BaseProcess:
    """Start `work(*arguments)`; what it raises is written to `errors`."""
    alone = {"OMP_NUM_THREADS": "1", **(environment or {})}
    process = _server.Process(target=_within, args=(alone, errors, work, arguments))
    process.start()
    return process


def begin_together(count: int, work: Callable[..., None], *arguments: Any, folder: Path) -> list[BaseProcess]:
    """Start `count` processes as torchrun does; what process R raises is written to FOLDER/error-R.txt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"error-{rank}.txt" for rank in range(count)]
    processes = []
    for rank, errors in enumerate(files):
        errors.unlink(missing_ok=True)
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        processes.append(begin(work, *arguments, errors=errors, environment={**place, **there}))
    return processes


def finish(processes: list[BaseProcess], folder: Path) -> list[str]:
    """Wait for the ends; returns what each process raised, or the signal that ended it, "" for nothing."""
    for process in processes:
        process.join(300)
        assert process.exitcode is not None, "processes wait for each other"
    files = [folder / f"error-{rank}.txt" for rank in range(len(processes))]
    said = [errors.read_text() if errors.exists() else "" for errors in files]
    return [one or (f"ended with {p.exitcode}" if p.exitcode else "") for one, p in zip(said, processes, strict=True)]


def together(count: int, work: Callable[..., None], *arguments: Any, folder: Path) -> list[str]:
    """`begin_together` and `finish`."""
    return finish(begin_together(count, work, *arguments, folder=folder), folder)


def wait_for_step(out: Path, step: int, process: BaseProcess) -> None:
    """Until the log of a run holds this many lines, or its process has ended."""
    while process.is_alive() and len(read_log(out / "log.jsonl")) < step:
        time.sleep(0.002)
