"""What a GPU recipe should cost: counted multiplications, an assumed rate, and the reading measured on a store.

python benchmarks/recipe_cost.py --store STORE --out RESULT.json [RECIPE ...]

Nothing here is a measurement of a GPU. One sample's forward and backward pass is counted by torch on this machine, and
the hours assume a share of an A100's bfloat16 rate; reading is measured in processor seconds on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from alice_speed import made_up_batch
from machine import described, keep

import alice3d
from alice3d.data.preprocessing.intensity import IntensityRule, parse_windows
from alice3d.data.sampling.base import Masks
from alice3d.data.sampling.crops import ViewSettings
from alice3d.data.sampling.matched_pair import MatchedPair
from alice3d.data.store import Store
from alice3d.methods.base import find_method, method_config
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.classification import ClassificationNet
from alice3d.nn.heads.segmentation import build_segmenter

A100 = 312e12
"""bfloat16 operations a second that the maker names, without sparsity."""
SHARE = 0.3
"""Of it, assumed: what ViTs of this size commonly reach on it under autocast."""
RECIPES = ("alice-paper", "flare22-pretrain", "flare22", "btcv", "covid-ct")
CLASSES = 14
"""Thirteen organs and background."""


def settings_of(recipe: str) -> dict[str, Any]:
    """A shipped recipe's values; a fine-tuning recipe takes its network from the pre-training recipe."""
    folder = Path(alice3d.__file__).parent / "configs"
    values: dict[str, Any] = yaml.safe_load((folder / f"{recipe}.yaml").read_text(encoding="utf-8"))
    if "method" not in values:
        pretraining = yaml.safe_load((folder / "flare22-pretrain.yaml").read_text(encoding="utf-8"))
        values = {key: pretraining[key] for key in ("backbone", "backbone_options")} | values
    return values


def operations(values: dict[str, Any]) -> float:
    """Multiplications and additions of one sample's forward and backward pass, recomputation included."""
    crop, counter = int(values["crop"]), FlopCounterMode(display=False)
    windows = str(values.get("windows", "-200:300,-1000:1000")).count(":")
    if "method" in values:
        torch.manual_seed(0)
        backbone = build_backbone(values["backbone"], windows, values["backbone_options"])
        kind = find_method(values["method"])
        method = kind(backbone, method_config(kind, values["options"]), crop=crop, total_steps=1)
        batch = made_up_batch(1, crop, torch.device("cpu"), windows)
        # the counter knows the mathematical form of attention, not the CPU's fused kernel
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), counter:
            method(batch, 0)["loss"].backward()
        return float(counter.get_total_flops())
    with torch.device("meta"):
        backbone = build_backbone(values["backbone"], windows, values["backbone_options"])
        if values["task"] == "segmentation":
            net = build_segmenter(backbone, CLASSES, values["head"])
        else:
            net = ClassificationNet(backbone, 2, values.get("pool", "mean"))
        volume = torch.zeros(1, windows, crop, crop, crop)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), counter:
            net(volume).sum().backward()
    return float(counter.get_total_flops())


def reading(store: Store, crop: int, count: int = 3) -> float:
    """Processor seconds of one pair of crops, read, turned and lit."""
    rule = IntensityRule(modality="ct", windows=parse_windows("-200:300,-1000:1000"))
    spacing = tuple(float(value) for value in store.spec.spacing_mm)
    views = ViewSettings(crop=crop, spacing_mm=spacing)  # type: ignore[arg-type]
    samples = MatchedPair(store=store, cases=store.cases()[:4], rule=rule, settings=views, masks=Masks())
    _ = samples[0]
    begun = time.process_time()
    for i in range(1, count + 1):
        _ = samples[i]
    return (time.process_time() - begun) / count


def main() -> None:
    """Count, measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    store = Store.open(args.store)
    found = {}
    for recipe in args.recipes:
        values = settings_of(recipe)
        samples = values["steps"] * values["batch"]
        counted, seconds = operations(values), reading(store, int(values["crop"]))
        found[recipe] = {
            "samples": samples,
            "tflop_a_sample": round(counted / 1e12, 3),
            "a100_hours_at_assumed_share": round(samples * counted / (SHARE * A100) / 3600, 1),
            "reading_core_s_a_pair": round(seconds, 3),
            # a fine-tuning sample is one crop in one view; a pair is two crops in up to three
            "reading_core_hours_at_most": round(samples * seconds / 3600 * (1 if "method" in values else 0.5), 1),
        }
        print(recipe, json.dumps(found[recipe]), flush=True)
    command = "python benchmarks/recipe_cost.py " + " ".join(sys.argv[1:])
    keep(args.out, {"command": command, "a100_flop_s": A100, "assumed_share": SHARE, "recipes": found, **described()})


if __name__ == "__main__":
    main()
