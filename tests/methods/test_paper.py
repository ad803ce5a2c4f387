"""The `paper` preset: its losses written out in loops, its moving averages, and where its gradients flow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

import alice3d
from alice3d.methods.alice import Alice
from alice3d.methods.base import method_config
from alice3d.nn.backbones.registry import build_backbone

CROP, PATCH = 16, 8
RECIPE = Path(alice3d.__file__).parent / "configs" / "alice-paper.yaml"
SMALL = {"casa_heads": 2, "decoder_width": 12, "decoder_depth": 1, "decoder_heads": 2}
HEADS = {"prototypes": 8, "hidden": 16, "bottleneck": 4}


def paper(kind: str = "vit") -> Alice:
    """The recipe's options on a small net with small heads."""
    torch.manual_seed(0)
    tiny: dict[str, dict[str, Any]] = {
        "vit": {"patch": PATCH, "width": 24, "depth": 2, "heads": 2},
        "resunet": {"widths": [4, 6, 8, 12], "blocks": [1, 1, 1]},
        "swin": {"width": 6, "depths": [1, 2, 1], "heads": [1, 2, 2], "window": 4},
    }
    options = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["options"]
    config = method_config(Alice, {**options, **SMALL, **HEADS})
    return Alice(build_backbone(kind, 1, tiny[kind]), config, crop=CROP, total_steps=10)


def batch_of(seed: int = 0) -> dict[str, Tensor]:
    """Two pairs of crops, a quarter of the patches visible."""
    draw = torch.Generator().manual_seed(seed)
    batch: dict[str, Tensor] = {}
    for name in ("q", "k"):
        view = torch.randn(2, 1, CROP, CROP, CROP, generator=draw)
        visible = torch.rand(2, 8, generator=draw).argsort(dim=1) < 2
        batch |= {name: view, f"{name}_target": view + 0.1, f"{name}_clean": view - 0.1, f"visible_{name}": visible}
    return batch


def cross_entropy(student: Tensor, teacher: Tensor, centre: Tensor, temperature: float) -> float:
    """Of one row: the student at 0.1 against the centred, sharpened teacher."""
    sharp = [math.exp((float(t) - float(c)) / temperature) for t, c in zip(teacher, centre, strict=True)]
    soft = [math.exp(float(s) / 0.1) for s in student]
    return -sum(t / sum(sharp) * math.log(s / sum(soft)) for t, s in zip(sharp, soft, strict=True))


@torch.no_grad()
def test_losses_equal_the_loops_over_two_steps() -> None:
    method = paper()
    centres = {"patch": torch.zeros(8), "class": torch.zeros(8)}
    assert method.casa is not None
    for step in range(2):
        batch = batch_of(step)
        out = method(batch, step)
        temperature = 0.04 + 0.03 * step / 3  # rises over 30 % of ten steps
        rows: dict[str, list[tuple[Tensor, Tensor]]] = {"patch": [], "class": []}
        squares: list[Tensor] = []
        for one, other in (("q", "k"), ("k", "q")):
            for i in range(2):
                item = {key: value[i : i + 1] for key, value in batch.items()}
                visible = item[f"visible_{one}"]
                cls, tokens = method.backbone.tokens(item[one], visible)
                features, voxels = method.decoder(cls, tokens, visible, (2, 2, 2))
                whole = method.target_backbone.tokens(item[f"{one}_target"])[1]
                student = method.patch_head(method.casa.online(tokens, features))[0]
                teacher = method.target_patch_head(method.casa.target(tokens, whole))[0]
                rows["patch"] += list(zip(student, teacher, strict=True))
                partner = method.target_backbone.tokens(item[f"{other}_target"])[0]
                rows["class"].append((method.class_head(cls)[0], method.target_class_head(partner)[0]))
                for n in range(8):
                    x, y, z = (PATCH * place for place in (n // 4, n // 2 % 2, n % 2))
                    cube = item[f"{one}_clean"][0, 0, x : x + PATCH, y : y + PATCH, z : z + PATCH].flatten()
                    if not visible[0, n]:
                        squares.append((voxels[0, n] - cube).square().mean())  # raw voxels, hidden patches alone
        for kind, answers in rows.items():
            losses = [cross_entropy(s, t, centres[kind], temperature) for s, t in answers]
            assert math.isclose(float(out[kind]), sum(losses) / len(losses), rel_tol=1e-4)
            centres[kind] = 0.9 * centres[kind] + 0.1 * torch.stack([t for _, t in answers]).mean(dim=0)
            torch.testing.assert_close(getattr(method, f"{kind}_centre").centre, centres[kind], rtol=1e-4, atol=1e-5)
        assert math.isclose(float(out["reconstruction"]), float(torch.stack(squares).mean()), rel_tol=1e-4)
        total = out["class"] + out["patch"] + 10 * out["reconstruction"]
        torch.testing.assert_close(out["loss"], total, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_every_part_of_the_target_branch_follows_along_the_cosine() -> None:
    method = paper()
    pairs = [(method.target_backbone, method.backbone), (method.target_patch_head, method.patch_head)]
    pairs.append((method.target_class_head, method.class_head))
    assert method.casa is not None
    pairs += [(method.casa.psi, method.casa.phi), (method.casa.target_zeta, method.casa.zeta)]
    pairs.append((method.casa.target_key_value, method.casa.key_value))
    for _, online in pairs:
        for p in online.parameters():
            p.add_(torch.randn_like(p))
    before = [[p.clone() for p in target.parameters()] for target, _ in pairs]
    method.after_step(4)
    momentum = 1 - (1 - 0.996) * (math.cos(math.pi * 4 / 10) + 1) / 2
    for (target, online), old in zip(pairs, before, strict=True):
        for now, new, was in zip(target.parameters(), online.parameters(), old, strict=True):
            torch.testing.assert_close(now, momentum * was + (1 - momentum) * new)
    followed = {id(p) for target, _ in pairs for p in target.parameters()}
    fixed = {id(p) for p in method.parameters() if not p.requires_grad}
    magnitudes = {id(p) for name, p in method.named_parameters() if "original0" in name}
    assert fixed == followed | magnitudes  # nothing of the target stands still, nothing else is frozen


@pytest.mark.parametrize("kind", ["vit", "resunet", "swin"])
def test_gradients_reach_the_visible_voxels_of_the_masked_views_alone(kind: str) -> None:
    method, batch = paper(kind), batch_of()
    for name in ("q", "k"):
        batch[name].requires_grad_()
        batch[f"{name}_target"] = batch[f"{name}_target"].detach().requires_grad_()
    method(batch, 0)["loss"].backward()
    for name in ("q", "k"):
        assert batch[f"{name}_target"].grad is None
        gradient = batch[name].grad
        assert gradient is not None
        shown = batch[f"visible_{name}"].view(2, 1, 2, 2, 2)
        for axis in (2, 3, 4):
            shown = shown.repeat_interleave(PATCH, axis)
        assert gradient[~shown].abs().max() == 0
        assert (gradient[shown] != 0).float().mean() > 0.9
    for key, p in method.named_parameters():
        assert (p.grad is None) == (not p.requires_grad), key


@pytest.mark.parametrize("part", ["patch_weight", "class_weight", "reconstruction_weight"])
def test_each_loss_alone_learns_what_it_should(part: str) -> None:
    method = paper()
    config = method.config.model_copy(update={f"{name}_weight": 0.0 for name in ("patch", "class", "reconstruction")})
    method.config = config.model_copy(update={part: 1.0})
    method(batch_of(), 0)["loss"].backward()
    assert method.casa is not None
    reached = {
        name
        for name, module in (
            ("encoder", method.backbone),
            ("decoder", method.decoder),
            ("query", method.casa.query),
            ("patch head", method.patch_head),
            ("class head", method.class_head),
        )
        if any(p.grad is not None and bool((p.grad != 0).any()) for p in module.parameters())
    }
    expected = {
        "patch_weight": {"encoder", "decoder", "query", "patch head"},
        "class_weight": {"encoder", "class head"},
        "reconstruction_weight": {"encoder", "decoder"},
    }
    assert reached == expected[part]
    # voxels are compared by the reconstruction alone
    rebuilt = method.decoder.to_voxels.weight.grad
    assert (rebuilt is not None and F.normalize(rebuilt, dim=1).abs().sum() > 0) == (part == "reconstruction_weight")
