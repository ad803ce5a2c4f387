"""Alice, MAE and SAM: where gradients flow, what switches do, and that they learn a toy anatomy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from alice3d.losses.contrast import crop_contrast
from alice3d.losses.distill import distillation_loss, sinkhorn, standardise
from alice3d.losses.reconstruct import reconstruction_loss
from alice3d.methods.alice import Alice, AliceConfig
from alice3d.methods.base import Method
from alice3d.methods.mae import MAE, MAEConfig
from alice3d.methods.sam import SAM, SAMConfig
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.layers import take_visible

CROP, PATCH = 16, 8
BACKBONES = {
    "resunet": ("resunet", {"widths": [4, 6, 8, 12], "blocks": [1, 1, 1]}),
    "vit": ("vit", {"patch": PATCH, "width": 24, "depth": 2, "heads": 2}),
    "swin": ("swin", {"width": 6, "depths": [1, 2, 1], "heads": [1, 2, 2], "window": 4}),
}
SMALL = {"casa_heads": 2, "decoder_width": 12, "decoder_depth": 1, "decoder_heads": 2}
HEADS = {"prototypes": 16, "hidden": 16, "bottleneck": 8}


def batch_of(count: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Crop pairs as `MatchedPair` gives them: K is Q shifted by two voxels, with half of the patches hidden."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randn(count, 1, CROP + 2, CROP, CROP, generator=generator)
    q, k = whole[:, :, 2:].clone(), whole[:, :, :CROP].clone()
    points = torch.rand(count, 12, 3, generator=generator) * (CROP - 4)
    visible = torch.zeros(count, (CROP // PATCH) ** 3, dtype=torch.bool)
    visible[:, ::2] = True
    batch = {
        "points_q": points,
        "points_k": points + torch.tensor([2.0, 0, 0]),
        "valid": torch.ones(count, 12, dtype=torch.bool),
    }
    for name, view in (("q", q), ("k", k)):
        batch |= {name: view, f"{name}_target": view + 0.01, f"{name}_clean": view, f"visible_{name}": visible}
        batch[f"axes_{name}"] = torch.eye(3).expand(count, 3, 3) * 4
        batch[f"candidates_{name}"] = torch.rand(count, 40, 3, generator=generator) * (CROP - 1)
    return batch


def alice(kind: str = "resunet", **options: Any) -> Alice:
    torch.manual_seed(0)
    name, backbone_options = BACKBONES[kind]
    config = AliceConfig(**{**SMALL, **HEADS, **options})
    return Alice(build_backbone(name, 1, backbone_options), config, crop=CROP, total_steps=10)


@pytest.mark.parametrize("kind", BACKBONES)
def test_alice_reaches_every_online_weight_and_no_target_weight(kind: str) -> None:
    method = alice(kind)
    assert isinstance(method, Method)
    out = method.forward(batch_of(), 0)
    out["loss"].backward()
    for key, p in method.named_parameters():
        target = key.startswith("target_") or ".psi" in key or ".target_" in key or "original0" in key
        if target:
            assert p.grad is None, key
            assert not p.requires_grad, key
        else:
            assert p.grad is not None, key
    monitors = {"class", "patch", "reconstruction", "dense", "patch_marginal_entropy", "class_target_entropy"}
    assert monitors <= set(out)
    assert all(not value.requires_grad for key, value in out.items() if key != "loss")


@pytest.mark.parametrize(
    ("switched", "part"),
    [("class_weight", "class"), ("patch_weight", "patch"), ("reconstruction_weight", "reconstruction")],
)
def test_a_weight_of_zero_switches_a_loss_off(switched: str, part: str) -> None:
    batch = batch_of()
    full = alice().forward(batch, 0)
    less = alice(**{switched: 0.0}).forward(batch, 0)
    torch.testing.assert_close(full["loss"] - full[part], less["loss"], rtol=1e-4, atol=1e-4)


def test_dense_and_casa_can_be_left_out() -> None:
    method = alice(dense_weight=0.0, casa=False)
    out = method.forward(batch_of(), 0)
    assert "dense" not in out
    assert method.casa is None
    assert not any(key.startswith(("dense", "casa")) for key in method.state_dict())


def test_alice_equals_the_figure_written_out() -> None:
    """Figure 2 of the paper step by step, one crop pair's branch at a time, without stacking Q and K."""
    method = alice("vit", dense_weight=0.0)
    config, batch = method.config, batch_of()
    out = method.forward(batch, 0)
    v_q, v_k = (method.backbone.tokens(batch[n], batch[f"visible_{n}"]) for n in "qk")
    y_q, y_k = (method.target_backbone.tokens(batch[f"{n}_target"]) for n in "qk")
    grid = method.backbone.token_grid((CROP,) * 3)
    students, teachers, rebuilt = [], [], []
    for name, (cls, tokens), (_, target) in (("q", v_q, y_q), ("k", v_k, y_k)):
        features, voxels = method.decoder(cls, tokens, batch[f"visible_{name}"], grid)
        clean, visible = batch[f"{name}_clean"], batch[f"visible_{name}"]
        rebuilt.append(reconstruction_loss(voxels, clean, visible, patch=PATCH))
        assert method.casa is not None
        students.append(method.casa.online(tokens, features))
        teachers.append(method.casa.target(tokens, target))
    low = config.teacher_temperature[0]
    teacher = sinkhorn(standardise(method.target_patch_head(torch.cat(teachers).flatten(0, 1)), config.spread), low)
    student = method.patch_head(torch.cat(students).flatten(0, 1))
    patch = distillation_loss(student, teacher, student_temperature=config.student_temperature)
    other = method.target_class_head(torch.cat([y_k[0], y_q[0]]))  # cls_u^Q -> cls_v^K and back
    crossed = sinkhorn(standardise(other, config.spread), low)
    ours = method.class_head(torch.cat([v_q[0], v_k[0]]))
    inter = distillation_loss(ours, crossed, student_temperature=config.student_temperature)
    torch.testing.assert_close(out["patch"], patch.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out["class"], inter.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out["reconstruction"], torch.stack(rebuilt).mean().detach(), rtol=1e-4, atol=1e-5)


def test_hidden_voxels_do_not_reach_the_online_branch() -> None:
    for kind in BACKBONES:
        method = alice(kind, dense_weight=0.0)
        batch = batch_of()
        grid = batch["visible_q"].view(4, 1, 2, 2, 2)
        hidden = ~grid.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3).repeat_interleave(PATCH, 4)
        changed = {**batch, "q": torch.where(hidden, torch.full_like(batch["q"], 7.0), batch["q"])}
        with torch.no_grad():
            before, after = method.forward(batch, 0), method.forward(changed, 0)
        torch.testing.assert_close(before["loss"], after["loss"])


def test_dense_features_from_the_decoder() -> None:
    """The dense contrast of the masked view written out; all of it learns, and no hidden voxel is seen."""
    method, batch = alice("vit", dense_from="decoder"), batch_of()
    out = method.forward(batch, 0)
    assert method.dense is not None
    assert method.dense_lift is not None
    assert method.target_dense is not None
    online, target = {}, {}
    for name in "qk":
        visible = batch[f"visible_{name}"]
        cls, tokens = method.backbone.tokens(batch[name], visible)
        features, _ = method.decoder(cls, tokens, visible, (2, 2, 2))
        rows = method.dense_lift(features)
        for row in range(len(rows)):
            for seen, place in enumerate(visible[row].nonzero()[:, 0]):
                rows[row, place] = rows[row, place] + tokens[row, seen]
        online[name] = method.dense([rows.transpose(1, 2).reshape(4, 24, 2, 2, 2)])
        target[name] = method.target_dense(method.target_backbone.pyramid(batch[f"{name}_target"]))
    config = method.config
    sides = [
        crop_contrast(
            online[query],
            target[key],
            batch,
            query=query,
            key=key,
            temperature=config.dense_temperature,
            ignore_mm=config.ignore_mm,
        )
        for query, key in ("qk", "kq")
    ]
    torch.testing.assert_close(out["dense"], torch.stack(sides).mean().detach(), rtol=1e-4, atol=1e-5)
    out["loss"].backward()
    silent = {key for key, p in method.named_parameters() if p.requires_grad and p.grad is None}
    assert not {key for key in silent if "original0" not in key}
    hidden = ~batch["visible_q"].view(4, 1, 2, 2, 2)
    for axis in (2, 3, 4):
        hidden = hidden.repeat_interleave(PATCH, axis)
    changed = method.forward({**batch, "q": batch["q"].masked_fill(hidden, 7.0)}, 0)
    torch.testing.assert_close(changed["loss"], out["loss"])
    with pytest.raises(ValueError, match="for a ViT"):
        alice("resunet", dense_from="decoder")


def test_target_follows_along_the_momentum() -> None:
    method = alice(momentum=0.5, momentum_end=0.5)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    with torch.no_grad():
        for p in method.backbone.parameters():
            p.add_(1.0)
    method.after_step(0)
    after = method.state_dict()
    key = "target_backbone.stem.weight"
    torch.testing.assert_close(after[key], before[key] + 0.5)
    method.reset_target()
    torch.testing.assert_close(method.state_dict()[key], method.state_dict()["backbone.stem.weight"])


def test_without_casa_targets_are_the_visible_tokens() -> None:
    method = alice("vit", casa=False, dense_weight=0.0)
    batch = batch_of()
    out = method.forward(batch, 0)
    masked, whole = (torch.cat([batch[f"q{s}"], batch[f"k{s}"]]) for s in ("", "_target"))
    visible = torch.cat([batch["visible_q"], batch["visible_k"]])
    tokens = method.backbone.tokens(masked, visible)[1].flatten(0, 1)
    kept = take_visible(method.target_backbone.tokens(whole)[1], visible).flatten(0, 1)
    teacher = sinkhorn(
        standardise(method.target_patch_head(kept), method.config.spread), method.config.teacher_temperature[0]
    )
    loss = distillation_loss(method.patch_head(tokens), teacher, student_temperature=method.config.student_temperature)
    torch.testing.assert_close(out["patch"], loss.detach(), rtol=1e-4, atol=1e-5)


def test_predictor_koleo_and_local_views_add_what_they_say() -> None:
    """The predictor's weights learn, KoLeo enters with its weight, and local crops give further class answers."""
    batch = batch_of()
    plain = alice(dense_weight=0.0)
    spread = alice(dense_weight=0.0, koleo_weight=0.1)
    out, more = plain.forward(batch, 0), spread.forward(batch, 0)
    torch.testing.assert_close(more["loss"], out["loss"] + 0.1 * more["koleo"], rtol=1e-4, atol=1e-4)
    asking = alice(dense_weight=0.0, predictor=True)
    asking.forward(batch, 0)["loss"].backward()
    assert all(p.grad is not None for p in asking.patch_predictor.parameters())
    assert not any("predictor" in key for key in asking.state_dict() if key.startswith("target_"))


def test_local_views_are_aligned_with_the_partner() -> None:
    """Class answers of the whole crops and of the local ones, one after the other, against the same crossed target."""
    method, batch = alice(dense_weight=0.0, local_views=2), batch_of()
    out, again = method.forward(batch, 3), method.forward(batch, 3)
    assert torch.equal(out["class"], again["class"])  # places depend on the step and the run's seed
    assert not torch.equal(out["class"], method.forward(batch, 4)["class"])
    views = torch.cat([batch["q"], batch["k"]])
    visible = torch.cat([batch["visible_q"], batch["visible_k"]])
    classes = [method.backbone.tokens(views, visible)[0], *method._local_classes(views, 3)]
    assert len(classes) == 3
    crossed = method.target_backbone.tokens(torch.cat([batch["k_target"], batch["q_target"]]))[0]
    config = method.config
    teacher = sinkhorn(
        standardise(method.target_class_head(crossed), config.spread), method._teacher_temperature(3)
    ).repeat(3, 1)
    loss = distillation_loss(
        method.class_head(torch.cat(classes)), teacher, student_temperature=config.student_temperature
    )
    torch.testing.assert_close(out["class"], loss.detach(), rtol=1e-4, atol=1e-5)


def test_local_views_lie_elsewhere_under_another_seed_and_in_the_same_places_when_a_run_goes_on() -> None:
    """Views that hold one value at each place, and a backbone whose class token is their mean, show where crops lie."""

    def places(seed: int, kept: dict[str, Tensor] | None = None) -> list[float]:
        method = alice(dense_weight=0.0, local_views=4)
        torch.manual_seed(seed)
        name, options = BACKBONES["resunet"]
        method = Alice(build_backbone(name, 1, options), method.config, crop=32, total_steps=10)
        method.load_state_dict(kept or method.state_dict())
        states.append(method.state_dict())
        method.backbone.tokens = lambda views, visible=None: (views.mean(dim=(2, 3, 4)), views)  # type: ignore
        views = torch.arange(32.0**3).view(1, 1, 32, 32, 32)
        return [float(token) for step in range(3) for token in method._local_classes(views, step)]

    states: list[dict[str, Tensor]] = []
    first, again, other = places(0), places(0), places(1)
    assert first == again
    assert len(set(first)) > 6
    assert first != other
    assert places(1, states[0]) == first


def _train(method: Any, steps: int) -> tuple[float, float]:
    optimiser = torch.optim.AdamW(method.param_groups(), lr=3e-3)
    losses = []
    for step in range(steps):
        out = method.forward(batch_of(seed=step % 4), step)
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
        method.after_step(step)
        losses.append(float(out["loss"].detach()))
    return sum(losses[:4]) / 4, sum(losses[-4:]) / 4


def test_sam_learns_to_match_and_averages() -> None:
    torch.manual_seed(0)
    method = SAM(build_backbone(*_described("resunet")), SAMConfig(), crop=CROP, total_steps=60)
    first, last = _train(method, 60)
    assert last < 0.8 * first
    averaged, online = (net.backbone.stem.weight for net in (method.averaged, method.network))
    assert not torch.equal(averaged, online)
    assert not averaged.requires_grad
    assert method.encoder() is method.averaged.backbone


@pytest.mark.parametrize("kind", BACKBONES)
def test_mae_learns_to_rebuild(kind: str) -> None:
    torch.manual_seed(0)
    config = MAEConfig(decoder_width=24, decoder_depth=1, decoder_heads=2)
    method = MAE(build_backbone(*_described(kind)), config, crop=CROP, total_steps=60)
    first, last = _train(method, 60)
    assert last < 0.95 * first


def _described(kind: str) -> tuple[str, int, dict[str, Any]]:
    name, options = BACKBONES[kind]
    return name, 1, options
