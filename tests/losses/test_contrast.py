"""The point contrast against a loop that reads like its formula."""

import math

import pytest
import torch

from alice3d.losses.contrast import (
    correspondence_contrast,
    crop_contrast,
    distances_mm,
    other_distances_mm,
    point_contrast,
    sample_at,
)


def slow_contrast(query, positive, candidates, ignored, temperature):
    losses = []
    for i in range(len(query)):
        above = math.exp(float(query[i] @ positive[i]) / temperature)
        below = above
        for j in range(len(candidates)):
            if not ignored[i, j]:
                below += math.exp(float(query[i] @ candidates[j]) / temperature)
        losses.append(-math.log(above / below))
    return torch.tensor(losses, dtype=torch.float64)


def unit(*shape, seed=0):
    return torch.nn.functional.normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1
    )


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_point_contrast_equals_the_loop(temperature):
    query, positive, candidates = unit(7, 5), unit(7, 5, seed=1), unit(11, 5, seed=2)
    ignored = torch.rand(7, 11, generator=torch.Generator().manual_seed(3)) < 0.4
    fast = point_contrast(query, positive, candidates, ignored, temperature)
    assert torch.allclose(fast, slow_contrast(query, positive, candidates, ignored, temperature), atol=1e-9)


def test_points_that_are_not_valid_do_not_count():
    query, positive, candidates = unit(2, 6, 4), unit(2, 6, 4, seed=1), unit(2, 9, 4, seed=2)
    distance = torch.full((2, 6, 9), 50.0)
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[1, 3:] = False
    whole = correspondence_contrast(query, positive, candidates, distance, valid, temperature=0.1, ignore_mm=10)
    changed = query.clone()
    changed[1, 3:] = unit(3, 4, seed=9)
    again = correspondence_contrast(changed, positive, candidates, distance, valid, temperature=0.1, ignore_mm=10)
    assert whole == again
    slow = [
        slow_contrast(query[i][valid[i]], positive[i][valid[i]], candidates[i], distance[i][valid[i]] < 10, 0.1)
        for i in range(2)
    ]
    assert torch.allclose(whole, torch.cat(slow).mean(), atol=1e-9)


def test_no_valid_point_gives_a_zero_that_has_a_gradient():
    query = unit(1, 3, 4).requires_grad_()
    loss = correspondence_contrast(
        query,
        unit(1, 3, 4, seed=1),
        unit(1, 5, 4, seed=2),
        torch.zeros(1, 3, 5),
        torch.zeros(1, 3, dtype=torch.bool),
        temperature=0.1,
        ignore_mm=5,
    )
    loss.backward()
    assert loss == 0
    assert torch.equal(query.grad, torch.zeros_like(query))


def test_other_scans_count_as_negatives_when_asked():
    query, positive, candidates = unit(2, 3, 4), unit(2, 3, 4, seed=1), unit(2, 5, 4, seed=2)
    distance, valid = torch.full((2, 3, 5), 99.0), torch.ones(2, 3, dtype=torch.bool)
    across = correspondence_contrast(
        query, positive, candidates, distance, valid, temperature=0.1, ignore_mm=5, across=True
    )
    both = candidates.reshape(10, 4)
    slow = [slow_contrast(query[i], positive[i], both, torch.zeros(3, 10, dtype=torch.bool), 0.1) for i in range(2)]
    assert torch.allclose(across, torch.cat(slow).mean(), atol=1e-9)


def test_places_of_other_pairs_are_no_negatives_near_the_true_place():
    query, positive, candidates = unit(3, 3, 4), unit(3, 3, 4, seed=1), unit(3, 5, 4, seed=2)
    distance, valid = torch.full((3, 3, 5), 99.0), torch.ones(3, 3, dtype=torch.bool)
    known, draw = [(0, 1), (2, 0)], torch.Generator().manual_seed(0)
    apart = {pair: 10 * torch.rand(3, 5, generator=draw) for pair in known}
    across = correspondence_contrast(
        *(query, positive, candidates, distance, valid),
        temperature=0.1,
        ignore_mm=5,
        across=True,
        other_mm=lambda i, j: apart.get((i, j)),
    )
    slow = []
    for i in range(3):
        order = [i, *(j for j in range(3) if j != i)]
        near = [apart[i, j] < 5 if (i, j) in apart else torch.zeros(3, 5, dtype=torch.bool) for j in order]
        every = torch.cat([candidates[j] for j in order])
        slow.append(slow_contrast(query[i], positive[i], every, torch.cat(near, dim=1), 0.1))
    assert torch.allclose(across, torch.cat(slow).mean(), atol=1e-9)


def test_distances_to_other_pairs_are_known_within_a_points_own_two_scans():
    """Pair 0 lies in scans 7 and 8; the key crops of pairs 1, 2 and 3 in scans 8, 7 and 9."""
    turned = torch.tensor([[0.0, -2.0, 0.0, 5.0], [3.0, 0.0, 0.0, 1.0], [0.0, 0.0, 4.0, 2.0], [0.0, 0.0, 0.0, 1.0]])
    draw = torch.Generator().manual_seed(0)
    batch = {"case_q": torch.tensor([7, 1, 2, 3]), "case_k": torch.tensor([8, 8, 7, 9])}
    for name in "qk":
        batch[f"affine_{name}"] = torch.stack([torch.eye(4), turned, turned, turned])
        batch[f"points_{name}"] = torch.rand(4, 2, 3, generator=draw) * 9
        batch[f"candidates_{name}"] = torch.rand(4, 3, 3, generator=draw) * 9
    for j, side in ((1, "k"), (2, "q")):
        found = other_distances_mm(batch, "q", "k", 0, j)
        for n in range(2):
            for m in range(3):
                place = turned[:3, :3] @ batch["candidates_k"][j, m] + turned[:3, 3]
                assert found[n, m] == pytest.approx(float((batch[f"points_{side}"][0, n] - place).norm()), abs=1e-4)
    assert other_distances_mm(batch, "q", "k", 0, 3) is None


def test_crops_of_one_scan_are_no_negatives_of_each_other_at_the_same_place():
    maps = [torch.nn.functional.normalize(torch.randn(1, 8, 4, 4, 4).expand(2, -1, -1, -1, -1), dim=1)]
    points = torch.rand(2, 9, 3, generator=torch.Generator().manual_seed(0)) * 7
    batch = {"q": torch.zeros(2, 1, 8, 8, 8), "valid": torch.ones(2, 9, dtype=torch.bool)}
    for name in "qk":
        batch |= {f"points_{name}": points[:1].expand(2, -1, -1), f"candidates_{name}": points[:1].expand(2, -1, -1)}
        batch |= {f"axes_{name}": torch.eye(3).expand(2, 3, 3), f"affine_{name}": torch.eye(4).expand(2, 4, 4)}
    settings = {"query": "q", "key": "k", "temperature": 0.05, "ignore_mm": 99.0, "across": True}
    one, two = (torch.tensor(cases) for cases in ([0, 0], [0, 1]))
    assert crop_contrast(maps, maps, {**batch, "case_q": one, "case_k": one}, **settings) == 0  # no negative is left
    assert crop_contrast(maps, maps, {**batch, "case_q": two, "case_k": two}, **settings) > 0.1


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_sampling_reads_a_linear_map_exactly_inside_whatever_the_stride(stride):
    side = 16
    cells = (torch.arange(side // stride, dtype=torch.float32) + 0.5) * stride - 0.5  # centre voxel of each feature
    x, y, z = torch.meshgrid(cells, cells, cells, indexing="ij")
    features = torch.stack([x, y, z])[None]
    points = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) * (side - 2 * stride) + stride
    assert torch.allclose(sample_at(features, points, (side,) * 3), points, atol=1e-4)


def test_distances_are_millimetres_in_a_rotated_anisotropic_crop():
    axes = torch.tensor([[[0.0, -2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 4.0]]])  # column = one voxel step in mm
    batch = {
        "axes_k": axes,
        "points_k": torch.tensor([[[1.0, 1.0, 1.0]]]),
        "candidates_k": torch.tensor([[[2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 3.0]]]),
    }
    assert torch.allclose(distances_mm(batch, "k"), torch.tensor([[[3.0, 2.0, 8.0]]]), atol=1e-4)


def test_crop_contrast_is_low_for_the_true_place_and_high_for_a_wrong_one():
    maps = [
        torch.nn.functional.normalize(torch.randn(1, 8, 4, 4, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    ]
    grid = torch.stack(torch.meshgrid(*[torch.arange(8.0)] * 3, indexing="ij"), dim=-1).reshape(1, -1, 3)
    points = grid[:, ::37]
    batch = {
        "q": torch.zeros(1, 1, 8, 8, 8),
        "points_q": points,
        "points_k": points,
        "candidates_k": grid,
        "axes_k": torch.eye(3)[None],
        "valid": torch.ones(1, points.shape[1], dtype=torch.bool),
    }
    settings = {"query": "q", "key": "k", "temperature": 0.05, "ignore_mm": 2.0}
    right = crop_contrast(maps, maps, batch, **settings)
    wrong = crop_contrast(maps, maps, batch | {"points_k": points.flip(1)}, **settings)
    assert right < wrong - 1
