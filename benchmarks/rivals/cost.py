"""What a step of each objective costs on each backbone, at equal crops: processor seconds and peak memory, in one run.

    python benchmarks/rivals/cost.py OUT [--crop 32] [--batch 4] [--rounds 3]

Generated patients at 8 mm. Each pair of objective and backbone has a process of its own, on one thread: one step to
warm up, then `--rounds` steps, of which the median counts. OUT/cost.json and OUT/cost.md have a row each; with `--ship`
the ratios to `mae` go where `alice methods` reads them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep

PATIENTS = {"pretrain": 6}
BACKBONES: dict[str, dict[str, Any]] = {"resunet": {}, "vit": {}, "swin": {}}
"""With their default options: small, tiny and tiny."""


def make_store(folder: Path) -> Path:
    """A store of generated patients, made once."""
    from alice3d.commands.prepare import PrepareConfig, run
    from alice3d.phantom.files import write_phantoms

    store = folder / "store"
    if not (store / "store.json").is_file():
        made = write_phantoms(folder / "scans", PATIENTS, seed=5, spacing_mm=(8.0, 9.0))
        run(PrepareConfig(scans=made.images, store=store, spacing="8"))
    return store


def measured(name: str, backbone: str, store: str, crop: int, batch: int, rounds: int, answer: Any) -> None:
    """Send back processor seconds of a step and of its samples, and peak memory in MB; or why it is refused."""
    import torch

    from alice3d.data.sampling.base import Masks, SamplerInputs
    from alice3d.data.sampling.crops import ViewSettings
    from alice3d.data.store import Store
    from alice3d.data.store.read_grid import intensity_rule
    from alice3d.engine.loader import collate
    from alice3d.methods.base import find_method
    from alice3d.nn.backbones.registry import build_backbone

    torch.set_num_threads(1)
    torch.manual_seed(0)
    kind, opened = find_method(name), Store.open(store)
    rule = intensity_rule(opened, "-200:300,-1000:1000")
    network = build_backbone(backbone, rule.channels, BACKBONES[backbone])
    if why := kind.unfit(network, kind.Config()):
        answer.send({"refused": why})
        return
    method = kind(network, kind.Config(), crop=crop, total_steps=100)
    samples = kind.Sampler.of(
        SamplerInputs(
            store=opened,
            cases=opened.cases(),
            rule=rule,
            views=ViewSettings(crop=crop, spacing_mm=(8.0, 8.0, 8.0)),
            masks=Masks(float(kind.defaults.get("mask_ratio", 0.75))),
            patch=network.stride,
        ),
        method.wants(),
    )
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-4)
    steps, reading = [], []
    for step in range(rounds + 1):
        begun = time.process_time()
        drawn = collate([samples[step * batch + i] for i in range(batch)])
        reading.append(time.process_time() - begun)
        begun = time.process_time()
        optimiser.zero_grad()
        method.forward(drawn, step)["loss"].backward()
        optimiser.step()
        method.after_step(step)
        steps.append(time.process_time() - begun)
    answer.send(
        {
            "step_s": round(statistics.median(steps[1:]), 3),
            "samples_s": round(statistics.median(reading[1:]), 3),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
    )


def page(rows: dict[str, dict[str, Any]]) -> str:
    """A Markdown table, a row an objective."""
    head = "| objective | " + " | ".join(f"{one}: step s, of mae, samples s, peak MB" for one in BACKBONES) + " |"
    lines = [head, "|---" * (len(BACKBONES) + 1) + "|"]
    for name, of in rows.items():
        cells = []
        for backbone in BACKBONES:
            one, mae = of[backbone], rows["mae"][backbone]
            if "refused" in one:
                cells.append("refused")
            else:
                ratio = one["step_s"] / mae["step_s"]
                cells.append(f"{one['step_s']:.2f}, {ratio:.1f}, {one['samples_s']:.2f}, {one['peak_mb']:,}")
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all, then write the table."""
    from alice3d.methods.base import method_names

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--crop", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ship", action="store_true", help="write the ratios into the package")
    given = parser.parse_args()
    store = make_store(given.out)
    context = multiprocessing.get_context("spawn")
    rows: dict[str, dict[str, Any]] = {}
    for name in method_names():
        rows[name] = {}
        for backbone in BACKBONES:
            here, there = context.Pipe(duplex=False)
            words = (name, backbone, str(store), given.crop, given.batch, given.rounds, there)
            process = context.Process(target=measured, args=words)
            process.start()
            there.close()
            try:
                rows[name][backbone] = here.recv()
            except EOFError:
                raise SystemExit(f"{name} on {backbone} failed") from None
            process.join()
            print(name, backbone, json.dumps(rows[name][backbone]), flush=True)
    settings = {"crop": given.crop, "batch": given.batch, "rounds": given.rounds, "command": " ".join(sys.argv)}
    keep(given.out / "cost.json", {"settings": settings, "objectives": rows, **described()})
    (given.out / "cost.md").write_text(page(rows), encoding="utf-8")
    if given.ship:
        from alice3d.methods.listing import COSTS

        ratios = {
            name: {
                backbone: round(one["step_s"] / rows["mae"][backbone]["step_s"], 2)
                for backbone, one in of.items()
                if "step_s" in one
            }
            for name, of in rows.items()
        }
        COSTS.write_text(json.dumps(ratios, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
