"""How much of their size in memory scans take in a store, for real folders, and how noisy they are.

python benchmarks/store_size.py FOLDER… [--limit 40]

Folders of images (or single scans); scans are taken at their own spacing, without added noise. The entropy of the
differences between neighbours along the best axis (or of the numbers, if that is less) tells how much noise there is:
where noise fills the picture no lossless coder gets far below it; blank surroundings pack better than it says.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import described, keep
from numpy.typing import NDArray

from alice3d.data.preprocessing.preprocess import prepare_array
from alice3d.data.store.arrays import write_array
from alice3d.geometry import spacing_of, to_closest_ras
from alice3d.io.read import read_scan
from alice3d.io.volume import ScanError


def bits(values: NDArray[Any]) -> float:
    """Entropy of the values' frequencies, in bits a value."""
    counts = np.unique(values, return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def sizes(paths: list[Path], modality: Any, folder: Path) -> dict[str, Any]:
    """Bytes in the store, whole and cropped to the body, over bytes of a memory map of the whole scan."""
    whole = cropped = plain = files = 0
    entropy = 0.0
    taken = 0
    for path in paths:
        try:
            volume = read_scan(path)
            spacing = spacing_of(to_closest_ras(volume.array, volume.affine)[1])
            made = [
                prepare_array(volume, spacing_mm=spacing, modality=modality, crop=crop) for crop in ("none", "body")
            ]
        except ScanError:
            continue  # a label map among the scans
        out = []
        for number, prepared in enumerate(made):
            out.append(folder / f"{number}.b2nd")
            write_array(out[-1], prepared.image, prepared.grid.affine)
        image = made[0].image
        entropy += (
            min(bits(image), *(bits(np.diff(image.astype(np.int32), axis=axis)) for axis in range(3))) * image.size
        )
        whole, cropped = whole + out[0].stat().st_size, cropped + out[1].stat().st_size
        plain, files, taken = plain + image.nbytes, files + path.stat().st_size, taken + 1
    return {
        "scans": taken,
        "stored_as": str(image.dtype),
        "store_over_memory_map": round(whole / plain, 3),
        "store_cropped_to_body_over_memory_map": round(cropped / plain, 3),
        "store_over_float32_memory_map": round(whole / plain * image.itemsize / 4, 3),
        "source_files_over_memory_map": round(files / plain, 3),
        "difference_entropy_over_memory_map": round(entropy / 8 / plain, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=40, help="scans a folder, taken evenly")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store" / "store_size.json")
    options = parser.parse_args()
    result: dict[str, Any] = {"what": "bytes over bytes of a memory map of the same voxels", **described()}
    result["command"] = f"python benchmarks/store_size.py {' '.join(Path(p).name for p in sys.argv[1:])}"
    with tempfile.TemporaryDirectory() as temporary:
        for folder in options.folders:
            paths = sorted(folder.glob("*.nii.gz"))
            name = folder.parent.name if folder.name == "images" else folder.name
            modality = "mr" if name.endswith("mr") else "ct"
            result[name] = sizes(paths[:: max(len(paths) // options.limit, 1)], modality, Path(temporary))
    keep(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
