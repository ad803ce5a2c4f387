"""How fast `prepare` is: two jobs against one, against MONAI, for small, for realistic and for your scans; and memory.

python benchmarks/prepare_speed.py [--scans FOLDER]

Every pipeline is a persistent process, called in turns (see `prepare_pipelines.py`), so that starting
is not counted and what else the machine does falls on all of them. Wall times tell what a user waits; processor times
hardly depend on what else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from machine import described, keep

PIPELINES = ("alice_1", "alice_2", "monai_bare", "monai_fair")
SIZES: dict[str, tuple[Any, Any, float, int, int, int]] = {
    "small": ((80, 80, 64), (2.5, 2.5, 2.5), 4.0, 60, 60, 1),
    "realistic": ((256, 256, 100), (1.6, 1.6, 3.0), 2.0, 4, 8, 2),
}
"""Shape, spacing in mm, spacing of the store, different scans, scans a run, what the number of rounds is divided by."""
WARM = 4
"""Scans that a pipeline prepares before it is timed."""
NOISE_HU = 12.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

MEMORY = """
import resource, sys
from pathlib import Path
from alice3d.data.prepare.prepare import PrepareOptions, prepare
if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), PrepareOptions(spacing_mm=(4.0, 4.0, 4.0), modality="ct"))
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def generated(folder: Path, count: int, shape: Any, spacing_mm: Any, seed: int) -> list[Path]:
    """Ellipsoids of tissue with bones in air, with noise everywhere, as compressed NIfTI; int16 HU."""
    folder.mkdir(parents=True)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij", sparse=True)
    paths = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        a, b = rng.uniform(0.6, 0.9, 2)
        image = np.full(shape, -1000, np.float32)
        image[(x / a) ** 2 + (y / b) ** 2 + (z / 0.9) ** 2 < 1] = 40
        for middle in rng.uniform(-0.4, 0.4, (6, 3)):
            image[(x - middle[0]) ** 2 + (y - middle[1]) ** 2 + (z - middle[2]) ** 2 < 0.02] = 800
        image += rng.normal(0, NOISE_HU, shape).astype(np.float32)
        paths.append(folder / f"scan{number:03d}.nii.gz")
        affine = np.diag([-spacing_mm[0], -spacing_mm[1], spacing_mm[2], 1.0])
        nib.save(nib.Nifti1Image(np.rint(image).astype(np.int16), affine), paths[-1])
    return paths


def folder_of(scans: list[Path], count: int, folder: Path) -> Path:
    """A folder with links to `count` scans, repeated under other names where there are fewer."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"c{number:04d}.nii.gz").symlink_to(scans[number % len(scans)].resolve())
    return folder


class Pipeline:
    """A process of `prepare_pipelines.py`."""

    def __init__(self, name: str, mm: float) -> None:
        script = Path(__file__).with_name("prepare_pipelines.py")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), name, str(mm)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )

    def run(self, scans: Path, out: Path) -> dict[str, float]:
        """Seconds of wall and processor time; what it wrote is taken away."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"scans": str(scans), "out": str(out)}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"a pipeline stopped with {self.process.wait()}")
        shutil.rmtree(out)
        return dict(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(scans: list[Path], count: int, mm: float, repeats: int, folder: Path) -> dict[str, Any]:
    """Seconds per scan of every pipeline, and their ratios within one round; the median of all rounds."""
    warm, many = folder_of(scans, WARM, folder / "warm"), folder_of(scans, count, folder / "many")
    pipelines = {name: Pipeline(name, mm) for name in PIPELINES}
    rounds: list[dict[str, dict[str, float]]] = []
    for name, pipeline in pipelines.items():
        pipeline.run(warm, folder / f"warm-{name}")
    for number in range(repeats):
        order = PIPELINES if number % 2 == 0 else PIPELINES[::-1]
        rounds.append({name: pipelines[name].run(many, folder / f"{name}-{number}") for name in order})
        print({name: {k: round(v / count, 4) for k, v in spent.items()} for name, spent in rounds[-1].items()})
    for pipeline in pipelines.values():
        pipeline.close()
    result: dict[str, Any] = {"scans_a_run": count, "store_mm": mm, "rounds": repeats}
    for name in PIPELINES:
        for kind in ("wall", "cpu"):
            spent = [one[name][kind] / count for one in rounds]
            result[f"{name}_{kind}_ms"] = {
                "median": round(1000 * statistics.median(spent), 1),
                "best": round(1000 * min(spent), 1),
            }
    for kind in ("wall", "cpu"):
        for over in ("monai_bare", "monai_fair"):
            ratios = [one[over][kind] / one["alice_1"][kind] for one in rounds]
            result[f"{over}_over_alice_{kind}"] = round(statistics.median(ratios), 2)
    ratios = [one["alice_1"]["wall"] / one["alice_2"]["wall"] for one in rounds]
    result["one_job_over_two_jobs_wall"] = {
        "median": round(statistics.median(ratios), 2),
        "of_best_runs": round(result["alice_1_wall_ms"]["best"] / result["alice_2_wall_ms"]["best"], 2),
        "all": [round(ratio, 2) for ratio in ratios],
    }
    extra = [one["alice_2"]["cpu"] / one["alice_1"]["cpu"] for one in rounds]
    result["two_jobs_over_one_job_cpu"] = round(statistics.median(extra), 2)
    return result


def peaks(scans: list[Path], many: int, folder: Path) -> dict[str, Any]:
    """Peak memory of `prepare` for few and for many scans."""
    result = {}
    for count in (many // 10, many):
        source = folder_of(scans, count, folder / f"memory{count}")
        command = [sys.executable, "-c", MEMORY, str(source), str(folder / f"store{count}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **ONE_THREAD})
        result[str(count)] = round(float(done.stdout.split("PEAK")[1]), 1)
    low, high = result.values()
    return {"megabytes": result, "many_over_few": round(high / low, 3)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scans", type=Path, help="folder of CT scans to compare the pipelines on besides")
    parser.add_argument("--mm", type=float, default=4.0, help="spacing of the store for --scans")
    parser.add_argument("--count", type=int, default=20, help="of --scans that are taken")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--many", type=int, default=200, help="scans of the memory test")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store" / "prepare_speed.json")
    options = parser.parse_args()
    words = [
        word if options.scans is None or word != str(options.scans) else options.scans.parent.name for word in sys.argv
    ]
    result: dict[str, Any] = {
        "what": "milliseconds a scan, starting up aside; ratios within one round, median of rounds",
        "command": " ".join(["python benchmarks/prepare_speed.py", *words[1:]]),
        "seed": options.seed,
        "load_before": described()["machine"]["load"],
        **described(),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, (shape, spacing, mm, different, count, fewer) in SIZES.items():
            print(name, shape, spacing)
            scans = generated(folder / name / "scans", different, shape, spacing, options.seed)
            result[name] = {"shape": shape, "spacing_mm": spacing}
            result[name] |= compare(scans, count, mm, max(options.repeats // fewer, 1), folder / name)
            keep(options.out, result)
            if name == "small":
                result["memory"] = peaks(scans, options.many, folder)
        if options.scans is not None:
            found = sorted(options.scans.iterdir())
            scans = found[:: max(len(found) // options.count, 1)][: options.count]
            result["real"] = {"folder": options.scans.parent.name}
            result["real"] |= compare(scans, len(scans), options.mm, max(options.repeats // 2, 1), folder / "real")
    result["load_after"] = described()["machine"]["load"]
    keep(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
