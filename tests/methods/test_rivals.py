"""Every rival objective on every backbone: gradients, moving averages, monitors, and that a step on the same samples is
the same to the bit."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alice3d.data.sampling.base import Masks, SamplerInputs
from alice3d.data.sampling.crops import ViewSettings
from alice3d.data.store import Store
from alice3d.data.store.read_grid import intensity_rule
from alice3d.engine.loader import collate
from alice3d.methods.base import PretrainMethod, check_returned, find_method, method_names
from alice3d.nn.backbones.registry import build_backbone

CROP = 16
BACKBONES: dict[str, dict[str, Any]] = {
    "resunet": {"widths": [4, 6, 8], "blocks": [1, 1]},
    "vit": {"patch": 4, "width": 24, "depth": 2, "heads": 2},
    "swin": {"width": 6, "depths": [1, 1], "heads": [1, 2], "window": 4},
}
SMALL = {"prototypes": 16, "hidden": 16, "bottleneck": 8, "width": 16, "small_views": 1, "shapes": (4, 6)}
DECODER = {"decoder_width": 12, "decoder_depth": 1, "decoder_heads": 2}
BASES = {"bases": (2, 2, 1)}
FINER_ONLY = {"spark", "anatomask", "kats"}
"""Objectives of the residual U-Net alone."""
RIVALS = [name for name in method_names() if name not in ("alice", "sam")]
USED = [(name, kind) for name in RIVALS for kind in BACKBONES if kind == "resunet" or name not in FINER_ONLY]


def build(name: str, kind: str = "resunet", **options: Any) -> PretrainMethod:
    torch.manual_seed(0)
    method = find_method(name)
    sizes = {key: value for key, value in {**SMALL, **DECODER, **BASES}.items() if key in method.Config.model_fields}
    if name == "smit":
        sizes["small_views"] = 0
    backbone = build_backbone(kind, 2, BACKBONES[kind])
    return method(backbone, method.Config(**{**sizes, **options}), crop=CROP, total_steps=10)


@cache
def opened(store: Path) -> Store:
    return Store.open(store)


def samples_of(method: PretrainMethod, path: Path) -> Any:
    store = opened(path)
    views = ViewSettings(crop=CROP, spacing_mm=(8.0, 8.0, 8.0), points=24, candidates=32)
    inputs = SamplerInputs(
        store=store,
        cases=store.cases(),
        rule=intensity_rule(store, "-200:300,-1000:1000"),
        views=views,
        masks=Masks(0.5),
        patch=method.backbone.stride,
        seed=3,
    )
    return method.Sampler.of(inputs, method.wants())


def batch_of(method: PretrainMethod, path: Path, count: int = 3) -> dict[str, Tensor]:
    samples = samples_of(method, path)
    return collate([samples[i] for i in range(count)])


@pytest.mark.parametrize(("name", "kind"), USED)
def test_gradients_reach_what_learns_and_no_moving_average(name: str, kind: str, tiny_store: Path) -> None:
    method = build(name, kind)
    out = check_returned(method, method.forward(batch_of(method, tiny_store), 3))
    out["loss"].backward()
    assert all(not value.requires_grad for key, value in out.items() if key != "loss")
    assert all(bool(torch.isfinite(value)) for value in out.values())
    untouched = []
    for key, p in method.named_parameters():
        if key.startswith("target_"):
            assert p.grad is None, key
            assert not p.requires_grad, key
        elif p.requires_grad and p.grad is None:
            untouched.append(key)
    # Only what an objective does not use of a backbone: its class token, and a Swin's own mask token.
    assert all("class_token" in key or key == "backbone.mask_token" for key in untouched), untouched


@pytest.mark.parametrize("name", RIVALS)
def test_the_same_step_is_the_same_to_the_bit(name: str, tiny_store: Path) -> None:
    losses = []
    for _ in range(2):
        method = build(name)
        losses.append(method.forward(batch_of(method, tiny_store), 3)["loss"].detach())
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", RIVALS)
def test_moving_averages_follow_and_can_be_reset(name: str, tiny_store: Path) -> None:
    method = build(name)
    twins = method.twins()
    with torch.no_grad():
        for _, online in twins:
            for p in online.parameters():
                p.add_(1.0)
    before = [[p.clone() for p in target.parameters()] for target, _ in twins]
    method.after_step(0)
    for (target, online), old in zip(twins, before, strict=True):
        for p, q, first in zip(target.parameters(), online.parameters(), old, strict=True):
            if q.requires_grad:
                assert bool(((p - first).abs() > 0).any())
                assert bool(((q - p).abs() > 0).any())
    method.reset_target()
    for target, online in twins:
        for p, q in zip(target.parameters(), online.parameters(), strict=True):
            torch.testing.assert_close(p, q)


@pytest.mark.parametrize("name", RIVALS)
def test_features_can_be_watched(name: str, tiny_store: Path) -> None:
    method = build(name).eval()
    with torch.no_grad():
        found = method.monitors(batch_of(method, tiny_store, 2))
    assert found["feature_rank"] > 1
    assert np.isfinite(list(found.values())).all()


@pytest.mark.parametrize("name", sorted(FINER_ONLY))
def test_what_a_backbone_cannot_do_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(ValueError, match=r"convolutional|residual U-Net"):
        build(name, "vit")


@pytest.mark.parametrize("name", ["mae", "simmim", "spark"])
def test_visible_voxels_of_the_target_do_not_count_and_hidden_ones_do_not_enter(name: str, tiny_store: Path) -> None:
    method = build(name).eval()
    batch = batch_of(method, tiny_store)
    first = method.forward(batch, 0)["loss"]
    stride = method.backbone.stride
    changed = dict(batch)
    for key in ("q", "k"):
        seen = batch[f"visible_{key}"].view(-1, 1, *(CROP // stride,) * 3)
        for axis in (2, 3, 4):
            seen = seen.repeat_interleave(stride, axis)
        changed[f"{key}_clean"] = torch.where(seen, 7.0, batch[f"{key}_clean"])
        changed[key] = torch.where(seen, batch[key], 1e4)
    assert torch.equal(first, method.forward(changed, 0)["loss"])


def test_hardest_patches_are_hidden_as_the_run_goes_on(tiny_store: Path) -> None:
    method = build("anatomask", hardest=(1.0, 1.0))
    batch = batch_of(method, tiny_store)
    seen: list[Tensor] = []
    rebuild = method.rebuild

    def watched(volumes: Tensor, visible: Tensor, *, target: bool = False) -> Tensor:
        seen.append(visible)
        return rebuild(volumes, visible, target=target)

    method.rebuild = watched  # type: ignore[method-assign]
    method.forward(batch, 0)
    drawn, harder = seen
    assert torch.equal((~drawn).sum(dim=1), (~harder).sum(dim=1))
    # All of the hardest: patches that the drawn mask shows have no error, so its own hidden ones are the worst.
    assert torch.equal(drawn, harder)


def test_voco_counts_every_target_and_base(tiny_store: Path) -> None:
    """The loss from the batch by loops, with features of each crop by itself."""
    method = build("voco", teacher="none", norm="layer")
    batch = batch_of(method, tiny_store, 2)
    with torch.no_grad():
        out = method.forward(batch, 0)

    @torch.no_grad()
    def vector(name: str, row: int) -> Tensor:
        maps = method.backbone.pyramid(batch[name][row : row + 1])
        pooled = torch.cat([level.mean(dim=(2, 3, 4)) for level in maps], dim=1)
        return torch.nn.functional.normalize(method.projector(pooled)[0], dim=0)

    above = below = away = count = repulsion = 0.0
    for row in range(2):
        bases = [vector(f"base_{j}", row) for j in range(4)]
        for t in range(2):
            target = vector(f"target_{t}", row)
            for j, base in enumerate(bases):
                s, y = max(float(target @ base), 0.0), float(batch["overlap"][row, t, j])
                if y:
                    above += y * -np.log(max(1 - abs(y - s), 1e-6))
                    below += y
                else:
                    away += s * s
                    count += 1
        pairs = [max(float(bases[i] @ bases[j]), 0.0) ** 2 for i in range(4) for j in range(i + 1, 4)]
        repulsion += sum(pairs) / len(pairs) / 2
    assert float(out["overlap"]) == pytest.approx(above / below, rel=1e-3)
    assert float(out["no_overlap"]) == pytest.approx(away / max(count, 1), rel=1e-3)
    assert float(out["repulsion"]) == pytest.approx(repulsion, rel=1e-3)


def test_dino_takes_all_pairs_of_views_but_a_view_with_itself(tiny_store: Path) -> None:
    method = build("dino", small_views=2, masked_share=0.0, koleo_weight=0.0)
    batch = batch_of(method, tiny_store)
    out = method.forward(batch, 0)
    token, everything = method.mask_token.value, torch.ones(3, (CROP // method.backbone.stride) ** 3, dtype=torch.bool)
    views = [method.backbone.masked_tokens(batch[f"whole_{n}"], everything, token)[0] for n in (0, 1)]
    views += [method.backbone.tokens(batch[f"small_{m}"])[0] for m in (0, 1)]
    teacher = torch.cat([method.target_backbone.tokens(batch[f"whole_{n}"])[0] for n in (0, 1)])
    answers = method.answers("class", teacher, 0)[0].chunk(2)
    terms = []
    for at in (0, 1):
        for number, view in enumerate(views):
            if number != at:
                log_p = (method.class_head(view) / method.config.student_temperature).log_softmax(dim=-1)
                terms.append(-(answers[at] * log_p).sum(dim=-1).mean())
    assert len(terms) == 6
    assert float(out["class"]) == pytest.approx(float(torch.stack(terms).mean().detach()), rel=1e-4)
    assert float(out["patch"]) == 0


def test_cva_compares_the_same_places_under_turns_and_unequal_overlaps(tiny_store: Path) -> None:
    """Features that are their own place in mm: the same places of both crops then have the same features."""
    from alice3d.losses.contrast import sample_at

    method = build("cva")
    samples = samples_of(method, tiny_store)
    checked = 0
    for number in range(6):
        sample = samples[number]
        batch = collate([sample])
        keep = batch["valid"][0].bool()
        read = []
        for name in ("q", "k"):
            index = torch.stack(torch.meshgrid(*(torch.arange(CROP, dtype=torch.float32),) * 3, indexing="ij"))
            affine = batch[f"affine_{name}"][0].float()
            world = torch.einsum("ij,jxyz->ixyz", affine[:3, :3], index) + affine[:3, 3, None, None, None]
            read.append(sample_at(world[None], batch[f"points_{name}"], (CROP,) * 3)[0][keep])
        torch.testing.assert_close(*read, atol=0.1, rtol=0)
        checked += int(keep.sum())
    assert checked > 50


def test_cva_pairs_the_crops_the_right_way_round(tiny_store: Path) -> None:
    """With features that are places, agreement is nearly full; with the target's crops exchanged it is not."""
    method = build("cva")
    method.projector = method.predictor = method.target_projector = torch.nn.Identity()
    batch = batch_of(method, tiny_store, 2)
    grid = method.backbone.token_grid((CROP,) * 3)
    centres = (torch.arange(grid[0], dtype=torch.float32) + 0.5) * method.backbone.stride - 0.5
    index = torch.stack(torch.meshgrid(centres, centres, centres, indexing="ij"))
    maps = []
    for name in ("q", "k"):
        affine = batch[f"affine_{name}"].float()
        world = torch.einsum("bij,jxyz->bixyz", affine[:, :3, :3], index) + affine[:, :3, 3, None, None, None]
        maps.append(world - batch["affine_q"].float()[:, :3, 3, None, None, None])
    places = torch.cat(maps)
    right = float(method._fine(batch, places, places))
    assert right < 0.02
    assert float(method._fine(batch, places, places.roll(2, dims=0))) > 5 * right


def test_vox2vec_leaves_out_near_points_of_the_same_scan(tiny_store: Path) -> None:
    losses = {}
    for ignore_mm in (0.0, 30.0, 1e9):
        method = build("vox2vec", ignore_mm=ignore_mm)
        batch = batch_of(method, tiny_store)
        losses[ignore_mm] = float(method.forward(batch, 0)["loss"].detach())
    assert losses[0.0] > losses[30.0] > losses[1e9]
    alone = build("vox2vec", ignore_mm=1e9)
    assert float(alone.forward(batch_of(alone, tiny_store, 1), 0)["loss"].detach()) == pytest.approx(0, abs=1e-6)
