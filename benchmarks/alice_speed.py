"""What a step of Alice costs on a ViT: against the published way, against MAE, and against the processor's own rate.

python benchmarks/alice_speed.py --store STORE --size small --crop 64 --out RESULT.json

All variants take turns within one run, on the same batch. On a CPU the clock is the processor time of this process,
so that whatever else runs on the machine does not count; the smallest of the rounds is kept.

- published: all tokens go through the online encoder, the hidden ones with zeros for voxels, as the published code of
  Alice does; the rest is the same model.
- paper: Alice as in the paper. alice: with dense alignment, whose online side sees whole crops once more. decoder: with
  dense alignment read from the decoder of the masked view.
- mae: masked reconstruction alone, on the same two crops a sample.
- rate: multiplications and additions that torch counts in a step, over its time, against the best square matrix
  product measured in the same run and precision.
- data wait: share of the time that the loop of `alice pretrain` waits for samples of a store, by its own log.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils import flop_counter

sys.path.insert(0, str(Path(__file__).parent))
from machine import described, keep

from alice3d.device import autocast, has_bf16, resolve_device
from alice3d.engine.optim import build_optimiser
from alice3d.engine.settings import LoopSettings
from alice3d.methods.alice import Alice
from alice3d.methods.base import PretrainMethod, method_config
from alice3d.methods.mae import MAE
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.backbones.vit3d import ViT3D
from alice3d.nn.layers import take_visible

PATCH = 8
GROUPS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "convolution", "scaled_dot_product", "attention_forward"),
    "softmax": ("softmax",),
    "gelu": ("gelu",),
    "normalisation": ("layer_norm", "aten::var", "aten::norm", "linalg_vector_norm"),
    "copies and casts": ("copy_", "cat", "clone", "_to_copy", "index", "constant_pad", "contiguous", "ToCopyBackward"),
}
"""Parts of operator names that make a group; the first that fits counts, and the rest is the small arithmetic."""

OPTIONS: dict[str, dict[str, Any]] = {
    "mae": {},
    "paper": {"dense_weight": 0, "balance": "centre", "spread": 0},
    "decoder": {"dense_from": "decoder"},
    "alice": {},
}
"""Variant to the settings in which it differs from the defaults."""


class AllTokens(ViT3D):
    """The published way: every patch passes the encoder, hidden ones as zeros; visible tokens are taken afterwards."""

    def tokens(self, volume: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Backbone.tokens`."""
        if visible is None:
            return super().tokens(volume)
        shown = visible.view(len(visible), 1, *self.token_grid(volume.shape[2:]))
        for axis in (2, 3, 4):
            shown = shown.repeat_interleave(self.stride, axis)
        class_token, patches = super().tokens(volume * shown)
        return class_token, take_visible(patches, visible)


def made_up_batch(count: int, crop: int, device: torch.device, channels: int = 2) -> dict[str, Tensor]:
    """Crop pairs in the form that `MatchedPair` gives; the numbers do not matter for the time."""
    draw = torch.Generator().manual_seed(0)
    patches = (crop // PATCH) ** 3
    batch = {"valid": torch.ones(count, 256, dtype=torch.bool)}
    for name in ("q", "k"):
        volume = torch.randn(count, channels, crop, crop, crop, generator=draw)
        batch |= {name: volume, f"{name}_target": volume + 0.1, f"{name}_clean": volume}
        order = torch.rand(count, patches, generator=draw).argsort(dim=1)
        batch[f"visible_{name}"] = order < patches // 4
        batch[f"points_{name}"] = torch.rand(count, 256, 3, generator=draw) * (crop - 1)
        batch[f"candidates_{name}"] = torch.rand(count, 2048, 3, generator=draw) * (crop - 1)
        batch[f"axes_{name}"] = torch.eye(3).expand(count, 3, 3) * 4
    return {name: value.to(device) for name, value in batch.items()}


class Variant:
    """One method with its optimiser.

    Args:
        name: of `OPTIONS`, with ` published` for all tokens through the online encoder.
        size: of the ViT.
        crop: voxels a side.
        device: where it runs.
        precision: as in the loop.
    """

    def __init__(self, name: str, size: str, crop: int, device: torch.device, precision: str) -> None:
        torch.manual_seed(0)
        backbone = build_backbone("vit", 2, {"size": size, "patch": PATCH})
        options = OPTIONS[name.removesuffix(" published")]
        kind: type[PretrainMethod] = MAE if name == "mae" else Alice
        self.method = kind(backbone, method_config(kind, options), crop=crop, total_steps=1000).to(device)
        if name.endswith("published"):
            self.method.backbone.__class__ = AllTokens  # the online encoder alone; the target sees whole views anyway
        self.learning = [p for p in self.method.parameters() if p.requires_grad]
        self.settings = LoopSettings(precision=precision)
        self.optimiser = build_optimiser(self.method.param_groups(), self.settings)
        self.device = device

    def learn(self, batch: dict[str, Tensor], step: int) -> None:
        """Forward and backward."""
        with autocast(self.device, self.settings.precision):
            loss = self.method(batch, step)["loss"]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()

    def update(self, step: int) -> None:
        """Clip, optimise, follow."""
        nn.utils.clip_grad_norm_(self.learning, self.settings.clip)
        self.optimiser.step()
        self.method.after_step(step)


def clock(device: torch.device) -> float:
    """Seconds: of this process's processor time, or of the wall on a GPU that has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def timed(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call."""
    begun = clock(device)
    work()
    return clock(device) - begun


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Best operations a second of square matrix products."""
    best = 0.0
    for side in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        a = torch.randn(side, side, device=device).to(dtype)
        seconds = min(timed(lambda a=a: a @ a, device) for _ in range(4))
        best = max(best, 2 * side**3 / seconds)
    return best


def operations(variant: Variant, batch: dict[str, Tensor]) -> float:
    """Multiplications and additions of one step's matrix products, forward and backward."""
    own = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    own_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

    def forward(q: Any, k: Any, v: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
        return int(flop_counter.sdpa_flop_count(q, k, v))

    def backward(grad: Any, q: Any, k: Any, v: Any, *rest: Any, out_shape: Any = None, **more: Any) -> int:
        return int(flop_counter.sdpa_backward_flop_count(grad, q, k, v))

    counter = flop_counter.FlopCounterMode(display=False, custom_mapping={own: forward, own_backward: backward})
    with counter:
        variant.learn(batch, 0)
    return float(counter.get_total_flops())


def shares(variant: Variant, batch: dict[str, Tensor]) -> dict[str, float]:
    """Share of a step's time by group of operators, forward and backward from a profile, the update by its time."""
    device = variant.device
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    learning = min(timed(lambda: variant.learn(batch, 1), device) for _ in range(2))
    updating = min(timed(lambda: variant.update(1), device) for _ in range(2))
    with profile(activities=activities) as seen:
        variant.learn(batch, 2)
    times: Counter[str] = Counter()
    for event in seen.key_averages():
        spent = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        fits = (group for group, parts in GROUPS.items() if any(part in event.key for part in parts))
        times[next(fits, "small arithmetic")] += spent
    whole = sum(times.values())
    part = learning / (learning + updating)
    found = {group: round(part * spent / whole, 3) for group, spent in times.most_common()}
    return {**found, "optimiser, clipping and moving averages": round(1 - part, 3)}


def data_wait(store: Path, size: str, crop: int, batch: int, steps: int, threads: int) -> dict[str, Any]:
    """What `alice pretrain` logs of waiting, on a real store; the first two steps fill the queue and do not count."""
    from alice3d.commands.pretrain import run
    from alice3d.pretraining.settings import PretrainConfig

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run(
            PretrainConfig(
                store=store,
                out=out,
                backbone="vit",
                backbone_options={"size": size, "patch": PATCH},
                crop=crop,
                batch=batch,
                steps=steps,
                threads=threads,
                options={"dense_weight": 0},
            )
        )
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()][2:]
    waited, spent = sum(line["data_wait_s"] for line in lines), sum(line["step_s"] for line in lines)
    return {"steps": len(lines), "waited_s": round(waited, 4), "spent_s": round(spent, 2), "share": waited / spent}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small")
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--store", type=Path, help="store to measure the wait for data on; left out, not measured")
    parser.add_argument("--steps", type=int, default=8, help="steps of the run that measures the wait")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    device = resolve_device(args.device, args.threads)
    half = args.precision == "bf16" or (args.precision == "auto" and has_bf16(device))
    kinds = [name for name in OPTIONS if name != "mae"]
    names = ["mae", *(name + how for name in kinds for how in ("", " published"))]
    batch = made_up_batch(args.batch, args.crop, device)
    variants = {name: Variant(name, args.size, args.crop, device, args.precision) for name in names}
    counted = {name: operations(variant, batch) for name, variant in variants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    rates = []
    for turn in range(args.rounds + 1):
        rates.append(matrix_rate(device, torch.bfloat16 if half else torch.float32))
        for name, variant in variants.items():
            spent = timed(lambda v=variant, t=turn: (v.learn(batch, t), v.update(t)), device)
            if turn:  # the first one warms up
                seconds[name].append(spent)
    best = {name: min(values) for name, values in seconds.items()}
    rate = max(rates)
    result = {
        "command": "python benchmarks/alice_speed.py " + " ".join(sys.argv[1:]),
        "backbone": {"name": "vit", "size": args.size, "patch": PATCH},
        "crop": args.crop,
        "batch_pairs": args.batch,
        "hidden_share": 0.75,
        "precision": "bf16" if half else "fp32",
        "threads": args.threads,
        "step_s": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "pairs_a_second": {name: round(args.batch / value, 2) for name, value in best.items()},
        **{f"published_over_{name}": round(best[f"{name} published"] / best[name], 2) for name in kinds},
        **{f"{name}_over_mae": round(best[name] / best["mae"], 2) for name in kinds},
        "counted_gflop": {name: round(value / 1e9, 1) for name, value in counted.items()},
        "matrix_rate_gflop_s": round(rate / 1e9, 1),
        "share_of_matrix_rate": {name: round(counted[name] / best[name] / rate, 3) for name in names},
        "share_of_time": {name: shares(variants[name], batch) for name in OPTIONS},
        "torch": torch.__version__,
        **described(),
    }
    if args.store is not None:
        result["data_wait"] = data_wait(args.store, args.size, args.crop, args.batch, args.steps, args.threads)
    keep(args.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
