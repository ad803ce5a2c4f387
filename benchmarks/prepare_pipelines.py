"""One pipeline from scans to prepared arrays, as a persistent process; `prepare_speed.py` sends it runs in turns.

python benchmarks/prepare_pipelines.py PIPELINE MM

reads lines `{"scans": FOLDER, "out": FOLDER}` and answers `{"wall": seconds, "cpu": seconds}`.

Pipelines: alice_1, alice_2 (jobs); monai_bare: load, orient, Spacing (bilinear, no low-pass), crop to the foreground,
save int16 without compression; monai_fair: the same with what `alice prepare` and any user of the result needs: a
Gaussian low-pass (the same sigma) before voxels get coarser, and compressed files (SaveImage, .nii.gz at nibabel's
level 1). Neither MONAI pipeline checks voxels, finds the body as one connected component, computes statistics and
checksums or syncs files to disk.
All use one thread per process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

WINDOW_HU = -350
MARGIN_VOXELS = 2


def cpu_of(pids: list[int]) -> float:
    """Seconds of processor time that other processes have taken (Linux)."""
    ticks = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def alice(jobs: int, mm: float) -> tuple[Callable[[Path, Path], None], Callable[[], list[int]]]:
    """`prepare` itself; its worker processes are kept, so that starting them is not part of a run."""
    from alice3d.data.prepare import PrepareOptions, prepare

    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) if jobs > 1 else None
    options = PrepareOptions(spacing_mm=(mm, mm, mm), modality="ct", jobs=jobs)
    sys.stdout = sys.stderr  # what prepare tells is no answer

    def run(scans: Path, out: Path) -> None:
        prepare(scans, out, options, executor=pool)

    return run, lambda: list(pool._processes) if pool is not None else []


def monai(fair: bool, mm: float) -> tuple[Callable[[Path, Path], None], Callable[[], list[int]]]:
    """The transforms that MONAI's own tutorials chain."""
    import numpy as np
    import torch
    from monai.transforms import (
        Compose,
        CropForeground,
        EnsureChannelFirst,
        GaussianSmooth,
        LoadImage,
        Orientation,
        SaveImage,
        Spacing,
    )

    torch.set_num_threads(1)

    def low_pass(image: torch.Tensor) -> torch.Tensor:
        factor = np.maximum(mm / np.asarray(image.pixdim), 1.0)
        sigma = np.where(factor < 1.2, 0.01, np.sqrt(factor**2 - 1) / 2.355)
        return GaussianSmooth(sigma=sigma.tolist())(image) if (sigma > 0.01).any() else image

    pipeline = Compose(
        [
            LoadImage(image_only=True),
            EnsureChannelFirst(),
            Orientation(axcodes="RAS"),
            *([low_pass] if fair else []),
            Spacing(pixdim=(mm, mm, mm), mode="bilinear"),
            CropForeground(select_fn=lambda x: x > WINDOW_HU, margin=MARGIN_VOXELS, allow_smaller=True),
        ]
    )

    def run(scans: Path, out: Path) -> None:
        out.mkdir(parents=True)
        save = SaveImage(
            output_dir=out, output_ext=".nii.gz", output_dtype=np.int16, print_log=False, separate_folder=False
        )
        for path in sorted(scans.iterdir()):
            image = pipeline(str(path))
            if fair:
                save(image)
            else:
                np.save(out / (path.name.split(".")[0] + ".npy"), image.numpy().astype(np.int16))

    return run, list


def main() -> None:
    pipeline, mm = sys.argv[1], float(sys.argv[2])
    answers = sys.stdout
    name, _, kind = pipeline.partition("_")
    run, workers = alice(int(kind), mm) if name == "alice" else monai(kind == "fair", mm)
    for line in sys.stdin:
        asked = json.loads(line)
        own, others = time.process_time(), {pid: cpu_of([pid]) for pid in workers()}
        begun = time.perf_counter()
        run(Path(asked["scans"]), Path(asked["out"]))
        wall = time.perf_counter() - begun
        cpu = time.process_time() - own + sum(cpu_of([pid]) - others.get(pid, 0.0) for pid in workers())
        print(json.dumps({"wall": wall, "cpu": cpu}), file=answers, flush=True)


if __name__ == "__main__":
    main()
