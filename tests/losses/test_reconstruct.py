"""Masked reconstruction against a loop over patches."""

import torch

from alice3d.losses.reconstruct import normalise_patches, patchify, rebuilt_volume, reconstruction_loss


def volume(seed=0):
    return torch.randn(2, 2, 8, 4, 12, generator=torch.Generator().manual_seed(seed))


def slow_patches(crops, patch):
    b, _, x, y, z = crops.shape
    rows = [
        crops[n, :, i : i + patch, j : j + patch, k : k + patch].permute(1, 2, 3, 0).reshape(-1)
        for n in range(b)
        for i in range(0, x, patch)
        for j in range(0, y, patch)
        for k in range(0, z, patch)
    ]
    return torch.stack(rows).view(b, -1, rows[0].numel())


def test_patches_lie_in_x_major_order_like_tokens():
    assert torch.equal(patchify(volume(), 4), slow_patches(volume(), 4))


def test_loss_equals_the_loop_over_hidden_patches_alone():
    crops = volume()
    patches = slow_patches(crops, 4)
    visible = torch.tensor([[True, False, True, False, True, True], [False] * 3 + [True] * 3])
    rebuilt = torch.randn(patches.shape, generator=torch.Generator().manual_seed(1))
    errors = []
    for n in range(2):
        for i in range(6):
            if not visible[n, i]:
                row = patches[n, i]
                row = (row - row.mean()) / (row.var(unbiased=False) + 1e-2).sqrt()
                errors.append(((rebuilt[n, i] - row) ** 2).mean())
    loss = reconstruction_loss(rebuilt, crops, visible, patch=4)
    assert torch.allclose(loss, torch.stack(errors).mean(), atol=1e-6)


def test_visible_patches_give_no_gradient():
    crops, visible = volume(), torch.tensor([[True, False, True, False, True, True]] * 2)
    rebuilt = torch.zeros(2, 6, 128, requires_grad=True)
    reconstruction_loss(rebuilt, crops, visible, patch=4).backward()
    assert rebuilt.grad[visible].abs().sum() == 0
    assert (rebuilt.grad[~visible].abs().sum(-1) > 0).all()


def test_perfect_answer_scores_zero_and_looks_like_the_crop():
    crops, visible = volume(), torch.zeros(2, 6, dtype=torch.bool)
    answer = normalise_patches(patchify(crops, 4))
    assert reconstruction_loss(answer, crops, visible, patch=4) < 1e-10
    assert torch.allclose(rebuilt_volume(answer, crops, visible, patch=4), crops, atol=1e-5)
