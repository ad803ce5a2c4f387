"""Dice, NSD and HD95 against MONAI, and the rules for what is absent or missed."""

from __future__ import annotations

import math

import monai
import numpy as np
import pytest
import torch

from alice3d.metrics.segmentation import dice_score, score_absent, score_case, summarise, surface_scores

SPACINGS = [(1.0, 1.0, 1.0), (0.8, 1.5, 3.0)]


def blob(seed: int, side: int = 18) -> np.ndarray:
    """A bumpy ball."""
    rng = np.random.default_rng(seed)
    ijk = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1)
    centre, radius = rng.uniform(7, 10, 3), rng.uniform(3, 5)
    return np.linalg.norm(ijk - centre, axis=-1) + rng.normal(0, 0.3, (side,) * 3) < radius


def batched(mask: np.ndarray) -> torch.Tensor:
    """(1, 1, x, y, z) as MONAI wants it."""
    return torch.from_numpy(mask)[None, None].float()


@pytest.mark.parametrize("seed", range(3))
def test_dice_equals_monai(seed):
    a, b = blob(seed), blob(seed + 10)
    oracle = monai.metrics.compute_dice(batched(b), batched(a), include_background=True)
    assert dice_score(a, b) == pytest.approx(float(oracle))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_nsd_equals_monai_with_subvoxels(seed, spacing):
    a, b = blob(seed), blob(seed + 10)
    nsd, _ = surface_scores(a, b, spacing, tolerance_mm=2.0)
    oracle = monai.metrics.compute_surface_dice(
        batched(b), batched(a), [2.0], include_background=True, spacing=spacing, use_subvoxels=True
    )
    assert nsd == pytest.approx(float(oracle), abs=1e-4)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_hd95_is_within_a_voxel_of_monai(seed, spacing):
    a, b = blob(seed), blob(seed + 10)
    _, hd95 = surface_scores(a, b, spacing, tolerance_mm=2.0)
    oracle = monai.metrics.compute_hausdorff_distance(
        batched(b), batched(a), include_background=True, percentile=95, spacing=spacing
    )
    assert hd95 == pytest.approx(float(oracle), abs=max(spacing))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_same_mask_is_perfect_wherever_it_lies(spacing):
    for corner in ((0, 0, 0), (3, 4, 5), (7, 7, 7)):
        mask = np.zeros((8, 8, 8), bool)
        mask[corner] = True  # a single voxel, at the border too
        assert dice_score(mask, mask) == 1
        assert surface_scores(mask, mask, spacing, tolerance_mm=0.1) == (1.0, 0.0)


def test_single_voxels_apart():
    a, b = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    a[2, 4, 4], b[6, 4, 4] = True, True
    nsd, hd95 = surface_scores(a, b, (1.0, 1.0, 2.0), tolerance_mm=1.0)
    assert nsd == 0
    assert hd95 == pytest.approx(4, abs=0.01)


def test_empty_masks():
    mask, empty = blob(0), np.zeros((18, 18, 18), bool)
    diagonal = math.sqrt((18 * 0.8) ** 2 + (18 * 1.5) ** 2 + (18 * 3.0) ** 2)
    for a, b in ((mask, empty), (empty, mask)):
        assert dice_score(a, b) == 0
        assert surface_scores(a, b, SPACINGS[1], tolerance_mm=2.0) == (0.0, pytest.approx(diagonal))
    assert math.isnan(dice_score(empty, empty))
    assert all(math.isnan(value) for value in surface_scores(empty, empty, SPACINGS[1], tolerance_mm=2.0))


def test_means_are_over_present_structures_then_over_cases():
    names = {1: "liver", 2: "spleen"}
    reference = np.zeros((10, 10, 10), np.int16)
    reference[:4], reference[6:] = 1, 2
    perfect = score_case("a", reference, reference, (1, 1, 1), names, tolerance_mm=2.0)
    only_liver = np.where(reference == 1, 1, 0)
    missed = score_case("b", reference, only_liver, (1, 1, 1), names, tolerance_mm=2.0)
    not_contoured = score_case("c", only_liver, reference, (1, 1, 1), names, tolerance_mm=2.0)
    assert [score.structure for score in not_contoured] == ["liver"]
    result = summarise([*perfect, *missed, *not_contoured], 3, ["liver", "spleen"])
    assert result["cases"] == 3
    assert result["dice"]["mean"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert result["nsd"]["mean"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert result["hd95_mm"]["mean"] == pytest.approx((0 + math.sqrt(300) / 2 + 0) / 3)
    assert result["dice"]["low"] <= result["dice"]["mean"] <= result["dice"]["high"]
    spleen = result["by_structure"]["spleen"]
    assert (spleen["cases"], spleen["absent"], spleen["missed"]) == (2, 1, 1)
    assert spleen["dice"]["mean"] == pytest.approx(0.5)
    assert (result["absent"], result["missed"]) == (1, 1)


def test_voxels_without_a_reference_are_not_scored():
    reference = blob(1).astype(np.int16)
    predicted = blob(1).astype(np.int16)
    reference[12:], predicted[12:] = -1, 1
    (score,) = score_case("a", reference, predicted, (1, 1, 1), {1: "ball"}, tolerance_mm=1)
    assert (score.dice, score.nsd, score.hd95_mm) == (1, 1, 0)
    assert score.predicted_voxels == score.reference_voxels == int(blob(1)[:12].sum())
    predicted[0, 0, 0] = 1
    (worse,) = score_case("a", reference, predicted, (1, 1, 1), {1: "ball"}, tolerance_mm=1)
    assert worse.dice < 1
    predicted[12:] = 2  # a structure that the reference lacks, where there is no reference
    assert score_absent("a", reference, predicted, (1, 1, 1), {1: "ball", 2: "other"}) == []
    predicted[0, 0, 0] = 2
    (false,) = score_absent("a", reference, predicted, (1, 1, 1), {1: "ball", 2: "other"})
    assert (false.structure, false.predicted_voxels) == ("other", 1)


def test_what_is_predicted_where_the_reference_has_none_is_counted_beside_dice():
    """Volumes by hand: voxels of 2 x 2 x 5 mm are 0.02 ml."""
    names, spacing = {1: "liver", 2: "spleen", 3: "lesion"}, (2.0, 2.0, 5.0)
    liver, empty = np.zeros((10, 10, 10), np.int16), np.zeros((10, 10, 10), np.int16)
    liver[:4] = 1
    false = liver.copy()
    false[6, :5, :] = 3  # 50 voxels
    more = empty.copy()
    more[0, 0, 0], more[8] = 2, 3  # 1 voxel and 100
    cases = {"partial": (liver, false), "healthy": (empty, more), "quiet": (empty, empty), "right": (liver, liver)}
    scores = []
    for case, (reference, predicted) in cases.items():
        scores += score_case(case, reference, predicted, spacing, names, tolerance_mm=5.0)
        scores += score_absent(case, reference, predicted, spacing, names)
    found = {(score.case, score.structure): score for score in scores}
    assert set(found) == {
        ("partial", "liver"), ("partial", "lesion"), ("right", "liver"),
        *(("healthy", name) for name in names.values()), *(("quiet", name) for name in names.values()),
    }  # fmt: skip
    assert found["partial", "lesion"].false_positive_ml == pytest.approx(1.0)
    assert found["healthy", "spleen"].false_positive_ml == pytest.approx(0.02)
    assert [score.false_positive for score in scores if score.case == "quiet"] == [False] * 3
    assert all(math.isnan(score.dice) for score in scores if not score.reference_voxels)
    result = summarise(scores, 4, ["liver"])
    assert result["dice"]["mean"] == 1.0  # of the two cases with a liver
    assert result["by_structure"]["liver"]["cases"] == 2
    assert (result["cases"], result["healthy"], result["patients"]) == (4, 2, 4)
    lesion = result["by_structure"]["lesion"]
    assert (lesion["cases"], lesion["absent"], lesion["false_positive"]) == (0, 4, 2)
    assert lesion["false_positive_ml"] == pytest.approx((1.0 + 2.0) / 2)
    assert math.isnan(lesion["dice"]["mean"])
    assert math.isnan(result["by_structure"]["liver"]["false_positive_ml"])
    assert result["false_positive"] == 3
    assert result["missed"] == 0


def test_a_patient_with_several_cases_counts_as_one_in_the_means():
    names = {1: "liver"}
    reference = np.zeros((10, 10, 10), np.int16)
    reference[:4] = 1
    nothing = np.zeros_like(reference)
    made = {"a1": reference, "a2": reference, "a3": reference, "b": nothing}
    scores = [one for case, predicted in made.items()
              for one in score_case(case, reference, predicted, (1, 1, 1), names, tolerance_mm=2.0)]  # fmt: skip
    result = summarise(scores, 4, ["liver"], {"a1": "a1", "a2": "a1", "a3": "a1", "b": "b"})
    assert result["dice"]["mean"] == result["by_structure"]["liver"]["dice"]["mean"] == 0.5
    assert (result["cases"], result["patients"]) == (4, 2)
    assert summarise(scores, 4, ["liver"])["dice"]["mean"] == 0.75
