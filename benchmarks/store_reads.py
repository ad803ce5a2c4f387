"""Random 64³ crops from a store, against compressed NIfTI and an uncompressed memory map; ratios within one run.

python benchmarks/store_reads.py --scan ../shared/data/torso_ct/example_ct.nii.gz

The scan is brought to 1 mm. `--noise` adds noise in HU to every voxel of the patient: interpolation takes noise away,
and what is left packs better than a scan that was taken at 1 mm.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from machine import described, keep

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.preprocessing.resampling import onto_grid
from alice3d.data.store.arrays import open_array
from alice3d.geometry import ras_grid, to_closest_ras
from alice3d.io.read import read_scan

SIDE = 64


def forget(path: Path) -> None:
    """Ask the system to drop a file from its cache, so that the next read comes from disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(read: Callable[[Path, tuple[slice, ...]], Any], path: Path, box: tuple[slice, ...], cold: bool) -> float:
    """Of one crop."""
    if cold:
        forget(path)
    begun = time.perf_counter()
    crop = np.asarray(read(path, box))
    spent = time.perf_counter() - begun
    assert crop.shape == (SIDE,) * 3
    return spent


def measured(noise: float, scan: Path, volumes: int, folder: Path) -> dict[str, Any]:
    """Sizes and crops a second of the three ways to keep the same volumes."""
    volume = read_scan(scan)
    array, affine = to_closest_ras(volume.array, volume.affine)
    grid = ras_grid(array.shape, affine, (1.0, 1.0, 1.0))
    fine = onto_grid(array, affine, grid, fill=-1024, whole=True)
    (folder / "scans").mkdir(parents=True)
    plain, packed = [], []
    for number in range(volumes):
        added = np.random.default_rng(number).normal(0, noise, grid.shape) if noise else 0.0
        image = np.rint(fine + np.where(fine > -900, added, 0)).astype(np.int16)
        packed.append(folder / "scans" / f"v{number}.nii.gz")
        nib.save(nib.Nifti1Image(image, grid.affine), packed[-1])
        plain.append(folder / f"v{number}.npy")
        np.save(plain[-1], image)
    prepare(folder / "scans", folder / "store", PrepareOptions(spacing_mm=(1.0,) * 3, modality="ct", crop="none"))
    stored = [folder / "store" / "images" / f"v{number}.b2nd" for number in range(volumes)]
    readers: dict[str, tuple[list[Path], Callable[..., Any], int]] = {
        "store": (stored, lambda path, box: open_array(path)[box], 25),
        "memory_map": (plain, lambda path, box: np.array(np.load(path, mmap_mode="r")[box]), 25),
        "nifti_gz": (packed, lambda path, box: nib.load(path).dataobj[box], 1),
    }
    spent: dict[tuple[str, bool], list[float]] = {(name, cold): [] for name in readers for cold in (True, False)}
    rng = np.random.default_rng(0)
    for _ in range(8):  # by turns, so that what else the machine does falls on all
        for name, (paths, read, count) in readers.items():
            for cold in (True, False):
                for _ in range(count):
                    start = [int(rng.integers(0, n - SIDE)) for n in grid.shape]
                    box = tuple(slice(a, a + SIDE) for a in start)
                    spent[name, cold].append(seconds(read, paths[rng.integers(volumes)], box, cold))
    result: dict[str, Any] = {"noise_hu": noise, "voxels": list(grid.shape)}
    for name, (paths, _, _) in readers.items():
        result[name] = {"megabytes": round(sum(path.stat().st_size for path in paths) / 1e6, 1)}
        for cold, state in ((True, "cold"), (False, "warm")):
            result[name][f"ms_a_crop_{state}"] = round(1000 * float(np.median(spent[name, cold])), 2)
    for other in ("memory_map", "nifti_gz"):
        for state in ("cold", "warm"):
            key = f"ms_a_crop_{state}"
            result[f"store_over_{other}_{state}"] = round(result[other][key] / result["store"][key], 2)
    result["size_over_int16_memory_map"] = round(result["store"]["megabytes"] / result["memory_map"]["megabytes"], 3)
    result["size_over_float32_memory_map"] = round(result["size_over_int16_memory_map"] / 2, 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scan", type=Path, required=True)
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--noise", type=float, nargs="*", default=[0.0, 12.0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store" / "store_reads.json")
    options = parser.parse_args()
    words = [word if word != str(options.scan) else options.scan.name for word in sys.argv[1:]]
    result: dict[str, Any] = {
        "what": "random 64^3 crops at 1 mm, median time of a crop; a ratio above 1: the store is quicker",
        "command": " ".join(["python benchmarks/store_reads.py", *words]),
        **described(),
        "runs": [],
    }
    for noise in options.noise:
        with tempfile.TemporaryDirectory() as temporary:
            result["runs"].append(measured(noise, options.scan, options.volumes, Path(temporary)))
    keep(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
