"""What Alice's targets lose where few pairs are seen at a time, and what the queue of past pairs mends.

python benchmarks/few_pairs.py --out benchmarks/results/alice/few_pairs.json

Twelve generated patients, a small residual U-Net trained on them with eight pairs a step, then frozen.
Nothing else is needed; it takes three to five minutes of one CPU core.

- overlap: what the target distributions of the two crops of a pair share, 0 to 1, seen 1, 2, 4 or 8 pairs at a time.
- cosine: between the gradient of a loss over a batch at once, and over the same batch in parts (`--accumulate`). The
  queue holds the pairs before the batch, as in a run.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from machine import described, keep

import alice3d
from alice3d.data.sampling.base import Masks
from alice3d.data.sampling.crops import ViewSettings
from alice3d.data.sampling.matched_pair import MatchedPair
from alice3d.data.store import Store
from alice3d.data.store.read_grid import intensity_rule
from alice3d.engine.loader import collate
from alice3d.methods.alice import Alice
from alice3d.methods.alice_settings import AliceConfig
from alice3d.nn.backbones.registry import build_backbone
from alice3d.phantom.files import write_phantoms

CROP, TRAINED, EARLIER = 32, 8, 8
HELD_OUT = 1_000_000
"""Number of the first sample that is measured on; training uses the first ones."""


def samples_of(folder: Path, seed: int) -> MatchedPair:
    """Pairs of crops of generated patients at 8 mm."""
    files = write_phantoms(folder / "scans", {"pretrain": 12}, seed=seed, spacing_mm=(8.0, 9.0))
    alice3d.prepare(files.images, folder / "store", spacing="8")
    store = Store.open(folder / "store")
    rule = intensity_rule(store, "-200:300,-1000:1000")
    views = ViewSettings(crop=CROP, spacing_mm=(8.0, 8.0, 8.0), points=8, candidates=8)
    cases = list(store.cases())
    return MatchedPair(store=store, cases=cases, rule=rule, settings=views, masks=Masks(0.75), seed=seed)


def pairs_of(samples: MatchedPair, first: int, count: int) -> dict[str, Tensor]:
    """Consecutive samples as one batch."""
    return collate([samples[number] for number in range(first, first + count)])


def trained(samples: MatchedPair, steps: int, seed: int) -> Alice:
    """The defaults without dense alignment, on a small network."""
    torch.manual_seed(seed)
    backbone = build_backbone("resunet", 2, {"widths": [8, 16, 24, 32], "blocks": [1, 1, 1]})
    method = Alice(backbone, AliceConfig(dense_weight=0), crop=CROP, total_steps=2 * steps)
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=5e-4)
    for step in range(steps):
        optimiser.zero_grad()
        method(pairs_of(samples, TRAINED * step, TRAINED), step)["loss"].backward()
        optimiser.step()
        method.after_step(step)
    return method


def with_options(method: Alice, **options: Any) -> Alice:
    """The same weights under other options, the queue empty."""
    other = Alice(
        copy.deepcopy(method.backbone),
        AliceConfig(**{**method.config.model_dump(), **options}),
        crop=CROP,
        total_steps=method.total_steps,
    )
    other.load_state_dict(method.state_dict())
    return other


@torch.no_grad()
def overlap(method: Alice, samples: MatchedPair, pairs: int, step: int, *, of: int = 32) -> float:
    """Of the class targets of matched crops, in passes of so many pairs, after `EARLIER` pairs that fill a queue."""
    shared = []
    for first in range(-EARLIER, of, pairs):
        part = pairs_of(samples, HELD_OUT + EARLIER + first, pairs)
        classes = method.target_backbone.tokens(torch.cat([part["k_target"], part["q_target"]]))[0]
        targets, _, _ = method._targets("class", classes, step)
        if first >= 0:
            shared.append(torch.minimum(targets[:pairs], targets[pairs:]).sum(dim=1))
    return float(torch.cat(shared).mean())


def gradient(method: Alice, samples: MatchedPair, first: int, batch: int, parts: int, step: int) -> Tensor:
    """Of the only loss that has a weight, over a batch in parts, after `EARLIER` pairs seen in parts of that size."""
    size = batch // parts
    learning = [p for p in method.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in learning))
    for start in range(-EARLIER if parts > 1 else 0, batch, size):
        with torch.set_grad_enabled(start >= 0):
            loss = method(pairs_of(samples, first + start, size), step)["loss"] / parts
        if start >= 0:
            found = torch.autograd.grad(loss, learning, allow_unused=True)
            total += torch.cat(
                [(g if g is not None else torch.zeros_like(p)).flatten() for g, p in zip(found, learning, strict=True)]
            )
    return total


def cosines(method: Alice, samples: MatchedPair, kind: str, batch: int, step: int, *, draws: int = 4) -> dict[str, Any]:
    """Mean over batches of the cosine between the gradient at once and in 2 and 4 parts, without and with a queue."""
    weights = {f"{name}_weight": float(name == kind) for name in ("class", "patch", "reconstruction")}
    firsts = [HELD_OUT + 1000 * (draw + 1) for draw in range(draws)]
    at_once = [gradient(with_options(method, queue=0, **weights), samples, first, batch, 1, step) for first in firsts]
    row: dict[str, Any] = {"loss": kind, "batch": batch}
    for parts in (2, 4):
        for queue, name in ((0, "without queue"), (method.config.queue, "with queue")):
            values = []
            for first, once in zip(firsts, at_once, strict=True):
                several = gradient(with_options(method, queue=queue, **weights), samples, first, batch, parts, step)
                values.append(float(torch.nn.functional.cosine_similarity(once, several, dim=0)))
            row[f"{parts} parts, {name}"] = round(sum(values) / draws, 3)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(row[name]) for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure, print two tables, and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        samples = samples_of(Path(folder), given.seed)
        method = trained(samples, given.steps, given.seed)
        shared = []
        for pairs in (1, 2, 4, 8):
            row: dict[str, Any] = {"pairs at a time": pairs}
            for queue, name in ((0, "without queue"), (method.config.queue, "with queue")):
                row[name] = round(overlap(with_options(method, queue=queue), samples, pairs, given.steps), 3)
            shared.append(row)
        alike = [cosines(method, samples, kind, batch, given.steps) for kind in ("class", "patch") for batch in (4, 8)]
    print(f"{table(shared)}\n\n{table(alike)}")
    command = f"python benchmarks/few_pairs.py --steps {given.steps} --seed {given.seed} --out {given.out}"
    keep(given.out, {"command": command, "overlap": shared, "cosine": alike, **described()})


if __name__ == "__main__":
    main()
