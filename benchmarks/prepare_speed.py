"""How fast `prepare` is: two jobs against one, against a plain MONAI pipeline, and memory for few and many scans.

python benchmarks/prepare_speed.py --scans ../shared/data/headneck_ct/images
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

SPACING = 4.0
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
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--many", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store" / "prepare_speed.json")
    options = parser.parse_args()
    scans = sorted(options.scans.iterdir())
    result: dict[str, Any] = {"what": "seconds a scan, start-up aside", "scans": options.count, **described()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        few, all_of_them = (folder_of(scans, n, folder / f"scans{n}") for n in (START, options.count))

        def seconds_each(name: str, script: str, *more: Any) -> float:
            spent = []
            for source in (few, all_of_them):
                out = folder / f"{name}-{source.name}"
                if script is MONAI:
                    out.mkdir()
                spent.append(run(script, source, out, *more)[0])
            return round((spent[1] - spent[0]) / (options.count - START), 4)

        result["alice_1_job"] = seconds_each("one", MEMORY, 1)
        result["alice_2_jobs"] = seconds_each("two", MEMORY, 2)
        result["monai"] = seconds_each("monai", MONAI)
        result["alice_1_job_again"] = seconds_each("one_again", MEMORY, 1)
        one = (result["alice_1_job"] + result["alice_1_job_again"]) / 2
        result["two_jobs_over_one"] = round(one / result["alice_2_jobs"], 2)
        result["monai_over_alice"] = round(result["monai"] / one, 2)
        peaks = {}
        for count in (options.many // 10, options.many):
            source = folder_of(scans, count, folder / f"memory{count}")
            printed = run(MEMORY, source, folder / f"store{count}", 1)[1]
            peaks[count] = round(float(printed.split("PEAK")[1]), 1)
        result["peak_megabytes"] = peaks
        low, high = peaks.values()
        result["peak_many_over_few"] = round(high / low, 3)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
