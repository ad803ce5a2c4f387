"""Random 64³ crops from a store, against compressed NIfTI and an uncompressed memory map; ratios within one run.

python benchmarks/store_reads.py --scan ../shared/data/torso_ct/example_ct.nii.gz
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from machine import described

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.read import read_scan
from alice3d.data.store import open_array
from alice3d.data.store_writing import write_array
from alice3d.geometry import ras_grid, resample

SIDE = 64
NOISE_HU = 12.0
"""Added to the interpolated scan: a scan at 1 mm has noise in every voxel."""


def forget(path: Path) -> None:
    """Ask the system to drop a file from its cache, so that the next read comes from disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def rate(
    read: Callable[[Path, tuple[slice, ...]], Any], paths: list[Path], shape: Any, count: int, cold: bool
) -> float:
    """Crops a second."""
    rng = np.random.default_rng(0)
    spent = 0.0
    for _ in range(count):
        path = paths[rng.integers(len(paths))]
        start = [int(rng.integers(0, n - SIDE)) for n in shape]
        box = tuple(slice(a, a + SIDE) for a in start)
        if cold:
            forget(path)
        begun = time.perf_counter()
        crop = np.asarray(read(path, box))
        spent += time.perf_counter() - begun
        assert crop.shape == (SIDE,) * 3
    return count / spent


def size_share(paths: list[Path]) -> float:
    """Bytes of scans as the store keeps them, over their bytes in memory."""
    stored = plain = 0
    with tempfile.TemporaryDirectory() as temporary:
        for path in paths:
            volume = read_scan(path)
            file = Path(temporary) / f"{path.name}.b2nd"
            write_array(file, volume.array, volume.affine)
            stored += file.stat().st_size
            plain += volume.array.nbytes
    return round(stored / plain, 3)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--more", type=Path, help="folder of scans whose size in a store is measured besides")
    parser.add_argument("--volumes", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store" / "store_reads.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        volume = read_scan(options.scan)
        grid = ras_grid(volume.array.shape, volume.affine, (1.0, 1.0, 1.0))
        fine = resample(volume.array, volume.affine, grid, fill=-1024)
        (folder / "scans").mkdir()
        plain, packed = [], []
        for number in range(options.volumes):
            noise = np.random.default_rng(number).normal(0, NOISE_HU, grid.shape)
            image = np.rint(fine + np.where(fine > -900, noise, 0)).astype(np.int16)
            packed.append(folder / "scans" / f"v{number}.nii.gz")
            nib.save(nib.Nifti1Image(image, grid.affine), packed[-1])
            plain.append(folder / f"v{number}.npy")
            np.save(plain[-1], image)
        prepare(
            folder / "scans",
            folder / "store",
            PrepareOptions(spacing_mm=(1.0, 1.0, 1.0), modality="ct", crop="none"),
        )
        stored = [folder / "store" / "images" / f"v{number}.b2nd" for number in range(options.volumes)]
        readers: dict[str, tuple[list[Path], Callable[..., Any], int]] = {
            "store": (stored, lambda path, box: open_array(path)[box], 200),
            "memory_map": (plain, lambda path, box: np.array(np.load(path, mmap_mode="r")[box]), 200),
            "nifti_gz": (packed, lambda path, box: nib.load(path).dataobj[box], 6),
        }
        result: dict[str, Any] = {"what": "random 64^3 crops a second", "voxels": list(grid.shape), **described()}
        for name, (paths, read, count) in readers.items():
            size = sum(path.stat().st_size for path in paths)
            result[name] = {
                "megabytes": round(size / 1e6, 1),
                "crops_per_s_cold": round(rate(read, paths, grid.shape, count, True), 1),
                "crops_per_s_warm": round(rate(read, paths, grid.shape, count, False), 1),
            }
        for other in ("memory_map", "nifti_gz"):
            for state in ("cold", "warm"):
                key = f"crops_per_s_{state}"
                result[f"store_over_{other}_{state}"] = round(result["store"][key] / result[other][key], 2)
        result["size_over_memory_map"] = round(result["store"]["megabytes"] / result["memory_map"]["megabytes"], 3)
    if options.more is not None:
        result["size_over_memory_map_of_more"] = size_share(sorted(options.more.iterdir())[:20])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
