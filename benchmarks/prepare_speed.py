"""How fast `prepare` is: two jobs against one, against a plain MONAI pipeline, and memory for few and many scans.

python benchmarks/prepare_speed.py

Without --scans it generates small ones. Runs alternate, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import described

SHAPE = (80, 80, 64)
SPACING_MM = 2.5
START = 4
"""A run over this few scans tells what starting costs."""

MEMORY = """
import resource, sys
from pathlib import Path
from alice3d.data.prepare import PrepareOptions, prepare
if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]),
            PrepareOptions(spacing_mm=(4.0, 4.0, 4.0), modality="ct", jobs=int(sys.argv[3])))
    peak = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print("PEAK", max(peak) / 1024)
"""

MONAI = """
import sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from monai.transforms import Compose, CropForeground, EnsureChannelFirst, LoadImage, Orientation, Spacing
road = Compose([LoadImage(image_only=True), EnsureChannelFirst(), Orientation(axcodes="RAS"),
                Spacing(pixdim=(4.0, 4.0, 4.0), mode="bilinear"),
                CropForeground(select_fn=lambda x: x > -350, margin=2, allow_smaller=True)])
for path in sorted(Path(sys.argv[1]).iterdir()):
    np.save(Path(sys.argv[2]) / (path.name.split(".")[0] + ".npy"), road(str(path)).numpy().astype(np.int16))
"""


def generated(folder: Path, count: int, seed: int) -> list[Path]:
    """Ellipsoids of tissue with bones in air, with noise, as compressed NIfTI; int16 HU, (80, 80, 64) at 2.5 mm."""
    import nibabel as nib
    import numpy as np

    folder.mkdir(parents=True)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    paths = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        a, b = rng.uniform(0.6, 0.9, 2)
        image = np.full(SHAPE, -1000.0)
        inside = (x / a) ** 2 + (y / b) ** 2 + (z / 0.9) ** 2 < 1
        image[inside] = 40 + rng.normal(0, 12, int(inside.sum()))
        for middle in rng.uniform(-0.4, 0.4, (6, 3)):
            image[(x - middle[0]) ** 2 + (y - middle[1]) ** 2 + (z - middle[2]) ** 2 < 0.02] = 800
        paths.append(folder / f"scan{number:03d}.nii.gz")
        affine = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
        nib.save(nib.Nifti1Image(np.rint(image).astype(np.int16), affine), paths[-1])
    return paths


def folder_of(scans: list[Path], count: int, folder: Path) -> Path:
    """A folder with links to `count` scans, repeated under other names where there are fewer."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"c{number:04d}.nii.gz").symlink_to(scans[number % len(scans)].resolve())
    return folder


def run(script: str, *arguments: Any) -> tuple[float, str]:
    """Seconds, and what it printed."""
    with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as file:
        file.write(script)
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, file.name, *map(str, arguments)], capture_output=True, text=True, check=True)
    Path(file.name).unlink()
    return time.perf_counter() - begun, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scans", type=Path, help="folder of scans to take instead of generated ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--many", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store" / "prepare_speed.json")
    options = parser.parse_args()
    config = {"count": options.count, "many": options.many, "seed": options.seed, "scans": "generated"}
    if options.scans is not None:
        config["scans"] = options.scans.name
    command = " ".join(["python benchmarks/prepare_speed.py", *sys.argv[1:]])
    about = {"command": command, "config": config, "load_before": described()["machine"]["load"], **described()}
    result: dict[str, Any] = {"what": "seconds a scan, start-up aside", "scans": options.count, **about}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scans = (
            generated(folder / "generated", options.count, options.seed)
            if options.scans is None
            else sorted(options.scans.iterdir())
        )
        few, all_of_them = (folder_of(scans, n, folder / f"scans{n}") for n in (START, options.count))

        def seconds_each(name: str, script: str, *more: Any) -> float:
            spent = []
            for source in (few, all_of_them):
                out = folder / f"{name}-{source.name}"
                if script is MONAI:
                    out.mkdir()
                spent.append(run(script, source, out, *more)[0])
            return round((spent[1] - spent[0]) / (options.count - START), 4)

        roads = {"alice_1_job": (MEMORY, 1), "alice_2_jobs": (MEMORY, 2), "monai": (MONAI,)}
        spent: dict[str, list[float]] = {name: [] for name in roads}
        for number, name in enumerate([*roads, *reversed(roads)]):
            spent[name].append(seconds_each(f"{name}{number}", *roads[name]))
            print(name, spent[name][-1], file=sys.stderr, flush=True)
        result["runs"] = spent
        for name, values in spent.items():
            result[name] = round(sum(values) / len(values), 4)
        result["one_job_over_two_jobs"] = round(result["alice_1_job"] / result["alice_2_jobs"], 2)
        result["monai_over_alice"] = round(result["monai"] / result["alice_1_job"], 2)
        peaks = {}
        for count in (options.many // 10, options.many):
            source = folder_of(scans, count, folder / f"memory{count}")
            printed = run(MEMORY, source, folder / f"store{count}", 1)[1]
            peaks[count] = round(float(printed.split("PEAK")[1]), 1)
        result["peak_megabytes"] = peaks
        low, high = peaks.values()
        result["peak_many_over_few"] = round(high / low, 3)
        result["load_after"] = described()["machine"]["load"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
