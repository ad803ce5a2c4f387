"""Segmentation losses against slow loops and against MONAI."""

from __future__ import annotations

import math

import monai
import pytest
import torch

from alice3d.losses.segment import marginal_cross_entropy, segmentation_loss, soft_dice_loss


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two crops, four classes; class 2 is not contoured in the first case, class 3 not in the second."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 4, 2, generator=generator)
    labels = torch.randint(0, 4, (2, 3, 4, 2), generator=generator)
    contoured = torch.tensor([[True, True, False, True], [True, True, True, False]])
    labels[0][labels[0] == 2] = 0
    labels[1][labels[1] == 3] = 0
    return logits, labels, contoured


def test_cross_entropy_equals_a_slow_loop(batch):
    logits, labels, contoured = batch
    total = weights = 0.0
    for b in range(2):
        for voxel in torch.cartesian_prod(*[torch.arange(n) for n in labels.shape[1:]]):
            x, y, z = voxel.tolist()
            p = logits[b, :, x, y, z].softmax(0)
            label = int(labels[b, x, y, z])
            merged = sum(p[c] for c in range(1, 4) if not contoured[b, c])
            probability = p[label] if label else p[0] + merged
            weight = 4.0 if label else 1.0
            total -= weight * math.log(float(probability))
            weights += weight
    value = marginal_cross_entropy(logits, labels, contoured, structure_weight=4.0)
    assert float(value) == pytest.approx(total / weights, rel=1e-5)


@pytest.mark.parametrize("over_batch", [False, True])
def test_dice_equals_a_slow_loop(batch, over_batch):
    logits, labels, contoured = batch
    p = logits.softmax(1)
    scores = []
    for c in range(1, 4):
        pairs = [(p[b, c], (labels[b] == c).float()) for b in range(2) if contoured[b, c]]
        if over_batch:
            pairs = [(torch.cat([a for a, _ in pairs]), torch.cat([g for _, g in pairs]))]
        for a, g in pairs:
            scores.append(1 - (2 * float((a * g).sum()) + 1) / (float(a.sum() + g.sum()) + 1))
    value = soft_dice_loss(logits, labels, contoured, over_batch=over_batch)
    assert float(value) == pytest.approx(sum(scores) / len(scores), rel=1e-5)


@pytest.mark.parametrize("over_batch", [False, True])
def test_dice_equals_monai_where_all_is_contoured(batch, over_batch):
    logits, labels, contoured = batch
    oracle = monai.losses.DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1, smooth_dr=1, batch=over_batch
    )
    value = soft_dice_loss(logits, labels, torch.ones_like(contoured), over_batch=over_batch)
    torch.testing.assert_close(value, oracle(logits, labels[:, None]))


def test_sum_equals_monai_where_all_is_contoured(batch):
    logits, labels, contoured = batch
    oracle = monai.losses.DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, smooth_nr=1, smooth_dr=1, batch=True
    )
    value = segmentation_loss(logits, labels, torch.ones_like(contoured), structure_weight=1.0)
    torch.testing.assert_close(value["loss"], oracle(logits, labels[:, None]))


def test_a_correct_prediction_of_an_uncontoured_organ_is_not_punished(batch):
    _, labels, contoured = batch
    logits = 20 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
    perfect = segmentation_loss(logits, labels, contoured)["loss"]
    found = logits.clone()
    found[0, :, :2] = 0
    found[0, 2, :2] = 20.0  # predicts class 2, which was not contoured in case 0, over half of the crop
    found[0] = torch.where((labels[0] == 0)[None], found[0], logits[0])
    assert float(segmentation_loss(found, labels, contoured)["loss"]) == pytest.approx(float(perfect), abs=1e-5)
    all_contoured = torch.ones_like(contoured)
    assert float(segmentation_loss(found, labels, all_contoured)["loss"]) > float(perfect) + 1


def test_gradients_are_finite_and_reach_the_merged_class(batch):
    logits, labels, contoured = batch
    logits = logits.clone().requires_grad_()
    segmentation_loss(logits, labels, contoured)["loss"].backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[0, 2] < 0).any()  # pulled up over background by the marginal term


def test_nothing_contoured_gives_a_zero_that_can_be_differentiated(batch):
    logits, labels, contoured = batch
    logits = logits.clone().requires_grad_()
    value = soft_dice_loss(logits, torch.zeros_like(labels), torch.zeros_like(contoured))
    value.backward()
    assert value.item() == 0


def test_a_batch_of_crops_equals_the_mean_of_its_items_when_scored_a_crop(batch):
    logits, labels, _ = batch
    contoured = torch.ones(2, 4, dtype=torch.bool)
    single = [soft_dice_loss(logits[b : b + 1], labels[b : b + 1], contoured[b : b + 1]) for b in range(2)]
    torch.testing.assert_close(soft_dice_loss(logits, labels, contoured), torch.stack(single).mean())


def test_voxels_without_a_reference_take_no_part(batch):
    logits, labels, contoured = batch
    ignored = torch.zeros(labels.shape, dtype=torch.bool)
    ignored[:, 1] = True
    masked = labels.masked_fill(ignored, -1)
    kept = [i for i in range(labels.shape[1]) if i != 1]
    expected = segmentation_loss(logits[:, :, kept], labels[:, kept], contoured)
    logits.requires_grad_()
    found = segmentation_loss(logits, masked, contoured)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-6)
    found["loss"].backward()
    assert logits.grad is not None
    assert (logits.grad[:, :, 1] == 0).all()
    assert (logits.grad[:, :, 0] != 0).any()


def test_a_batch_without_any_reference_has_a_loss_of_zero_and_finite_gradients(batch):
    logits, labels, contoured = batch
    logits.requires_grad_()
    loss = marginal_cross_entropy(logits, torch.full_like(labels, -1), contoured)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()
    assert torch.isfinite(segmentation_loss(logits.detach(), torch.full_like(labels, -1), contoured)["loss"])
