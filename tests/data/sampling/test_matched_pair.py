"""Samples: the same number gives the same sample, points correspond, masks and grids are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alice3d.data.pairs.correspondence import local_linear
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.base import Masks
from alice3d.data.sampling.crops import ViewSettings
from alice3d.data.sampling.matched_pair import MatchedPair
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import read_grid
from alice3d.errors import UserError
from alice3d.geometry import Grid, diagonal_affine

SETTINGS = ViewSettings(crop=16, spacing_mm=(8.0, 8.0, 8.0), points=32, candidates=64)


class ShiftedPairs:
    """A pairs table in which every key is its query shifted by a constant, known only on the patient's right."""

    shift = np.array([5.0, -3.0, 8.0])

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs

    def scan_pairs(self) -> list[tuple[str, str]]:
        return self.pairs

    def correspondence(self, query: str, key: str) -> ShiftedPairs:
        return self

    def map(self, points: NDArray[Any]) -> NDArray[Any]:
        return points + self.shift

    def certainty(self, points: NDArray[Any]) -> NDArray[Any]:
        return (points[:, 0] > points[:, 0].min()).astype(float)


class TurnedPairs(ShiftedPairs):
    """Keys that are larger than their queries and turned about the patient's axis."""

    linear = np.array([[1.1, -0.4, 0.0], [0.4, 1.1, 0.0], [0.0, 0.0, 0.9]])

    def map(self, points: NDArray[Any]) -> NDArray[Any]:
        return points @ self.linear.T + self.shift

    def local_affine(self, points: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(self.linear[None], len(points), axis=0)


def samples_of(store: Store, cases: list[Case] | None = None, **changes: Any) -> MatchedPair:
    usual: dict[str, Any] = {"settings": SETTINGS, "rule": IntensityRule(), "patch": 8}
    return MatchedPair(store=store, cases=store.cases() if cases is None else cases, **{**usual, **changes})


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> Store:
    return Store.open(tiny_store)


def test_the_same_number_gives_the_same_sample(store: Store) -> None:
    first, again, other = samples_of(store)[5], samples_of(store)[5], samples_of(store)[6]
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not np.array_equal(first["q"], other["q"])
    assert not np.array_equal(samples_of(store, seed=1)[5]["q"], first["q"])


def test_points_of_one_scan_show_the_same_place(store: Store) -> None:
    """Clean views read at corresponding points hold nearly the same intensities; at other points they do not."""
    settings = ViewSettings(**{**SETTINGS.__dict__, "strength": 0.0, "shift": 0.1, "points": 200})
    right, wrong = [], []
    for i in range(6):
        sample = samples_of(store, settings=settings)[i]
        keep = sample["valid"]
        assert keep.mean() > 0.3
        q, k = (_nearest(sample[name][0], sample[f"points_{name}"][keep]) for name in "qk")
        right.append(np.abs(q - k).mean())
        wrong.append(np.abs(q - np.roll(k, 7)).mean())
    assert np.mean(right) < 0.6 * np.mean(wrong)


def _nearest(image: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    index = np.clip(np.rint(points).astype(int), 0, np.array(image.shape) - 1)
    return image[tuple(index.T)]


def test_matched_points_follow_the_table(store: Store) -> None:
    ids = [case.id for case in store.cases("pretrain")]
    table = ShiftedPairs([(ids[0], ids[1])])
    settings = ViewSettings(**{**SETTINGS.__dict__, "rotation_deg": 0.0, "scale": (1.0, 1.0)})
    sample = samples_of(store, pairs=table, partner="matched", settings=settings)[3]
    keep = sample["valid"]
    assert keep.any()
    # Both grids are axis-aligned at 8 mm and K's centre is Q's shifted, so indices agree exactly.
    np.testing.assert_allclose(sample["points_q"][keep], sample["points_k"][keep], atol=1e-3)


def test_key_crops_follow_the_local_affine_where_asked(store: Store) -> None:
    ids = [case.id for case in store.cases("pretrain")]
    table = TurnedPairs([(ids[0], ids[1])])
    plain = {**SETTINGS.__dict__, "rotation_deg": 0.0, "scale": (1.0, 1.0)}
    usual, along = (
        samples_of(
            store, pairs=table, partner="matched", settings=ViewSettings(**{**plain, "local_affine": local_affine})
        )[3]
        for local_affine in (False, True)
    )
    np.testing.assert_allclose(usual["axes_k"], usual["axes_q"])
    np.testing.assert_allclose(along["axes_k"], TurnedPairs.linear @ along["axes_q"], rtol=1e-5)
    np.testing.assert_array_equal(along["q"], usual["q"])
    keep = along["valid"]
    assert keep.all()  # nothing of the query's crop turns out of the key's
    np.testing.assert_allclose(along["points_q"][keep], along["points_k"][keep], atol=1e-3)


def test_an_impossible_local_affine_leaves_the_key_crop_straight() -> None:
    class Folded:
        def local_affine(self, points: NDArray[Any]) -> NDArray[Any]:
            return np.repeat(np.diag([1.0, 1.0, -1.0])[None], len(points), axis=0)

    np.testing.assert_array_equal(local_linear(Folded(), np.zeros(3)), np.eye(3))


def test_a_share_of_the_samples_stays_within_one_scan(store: Store) -> None:
    ids = [case.id for case in store.cases("pretrain")]
    table = ShiftedPairs([(ids[0], ids[1])])
    still = {"rotation_deg": 0.0, "scale": (1.0, 1.0)}

    def matched(share: float) -> list[bool]:
        """Which samples are pairs of the table: only there do both crops hold a point at the same place."""
        settings = ViewSettings(**{**SETTINGS.__dict__, **still, "matched_share": share})
        samples = samples_of(store, pairs=table, partner="matched", settings=settings)
        drawn = [samples[i] for i in range(30)]
        assert all(sample["valid"].any() for sample in drawn)
        return [np.allclose(s["points_q"][s["valid"]], s["points_k"][s["valid"]], atol=1e-3) for s in drawn]

    assert all(matched(1.0))
    assert not any(matched(0.0))
    assert 8 <= sum(matched(0.5)) <= 22


def test_random_partners_are_other_patients_without_points(store: Store) -> None:
    sample = samples_of(store, partner="random")[0]
    assert not sample["valid"].any()
    with pytest.raises(UserError, match="at least two scans"):
        samples_of(store, store.cases()[:1], partner="random")


def test_masked_samples_carry_masks_and_targets(store: Store) -> None:
    sample = samples_of(store, masks=Masks(0.75))[0]
    assert sample["visible_q"].shape == (8,)
    assert sample["visible_q"].sum() == 2
    assert not np.array_equal(sample["q"], sample["q_target"])
    assert sample["q_clean"].shape == sample["q"].shape
    regions = samples_of(store, masks=Masks(0.75, block=2, regions=True))[0]
    assert regions["visible_q"].sum() == 2
    assert np.array_equal(regions["q"], sample["q"])  # masks are drawn last: the views are the same


def test_a_sample_keeps_where_and_how_it_was_drawn(store: Store) -> None:
    """Its crops can be read again: the same voxels, under the same recorded intensity change."""
    samples = samples_of(store, partner="random", masks=Masks(), seed=5)
    sample = samples[7]
    for name in ("q", "k"):
        where = samples.location(sample, name)
        assert (where.seed, where.number) == (5, 7)
        clean = read_grid(store, store.case(where.case), where.grid, samples.rule)
        np.testing.assert_allclose(clean, sample[f"{name}_clean"], atol=2e-3)
        channels = len(clean)
        gain, shift = (sample[f"intensity_{name}"][i * channels : (i + 1) * channels] for i in (0, 1))
        gamma, sigma, noise = sample[f"intensity_{name}"][-3:]
        if not sigma:
            changed = np.clip((clean + 1) / 2, 0, None) ** gamma * 2 - 1
            changed = changed * gain.reshape(-1, 1, 1, 1) + shift.reshape(-1, 1, 1, 1)
            assert np.abs(sample[name] - changed).std() <= noise + 1e-3
    assert samples.location(sample, "q").case != samples.location(sample, "k").case
    np.testing.assert_array_equal(samples[7]["q"], sample["q"])


RADIUS_MM = 60.0


class Balls:
    """MR-like scans in memory, read like a store: a ball of tissue in dark air, in any scale of intensities."""

    def __init__(self, values: dict[str, tuple[list[float], float]]) -> None:
        """Name to the intensities that the ball's voxels have at random, and the scale that all are multiplied by."""
        self.images: dict[str, NDArray[np.float32]] = {}
        self.balls: list[Case] = []
        for number, (name, (tissues, scale)) in enumerate(values.items()):
            rng = np.random.default_rng(number)
            grid = Grid((40, 40, 40), diagonal_affine((4.0, 4.0, 4.0), np.full(3, -78.0)))
            inside = np.linalg.norm(grid.world(np.indices(grid.shape).reshape(3, -1).T), axis=1) < RADIUS_MM
            inside = inside.reshape(grid.shape)
            image = np.abs(rng.normal(0, 2, grid.shape))
            image[inside] = rng.choice(tissues, int(inside.sum())) + rng.normal(0, 3, int(inside.sum()))
            image = (image * scale).astype(np.float32)
            p005, p995 = np.percentile(image[inside], (0.5, 99.5))
            stats = {"mean": image[inside].mean(), "std": image[inside].std(), "p005": p005, "p995": p995}
            corner = (RADIUS_MM,) * 3
            self.images[name] = image
            self.balls.append(
                Case(
                    id=name,
                    split="",
                    shape=grid.shape,
                    grid=grid,
                    stats={key: float(value) for key, value in stats.items()},
                    body_box_mm=(tuple(-mm for mm in corner), corner),
                    checksum="",
                    content="",
                    source="",
                    labelled=False,
                    structures=(),
                )
            )

    def image(self, id: str) -> NDArray[np.float32]:
        return self.images[id]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_points_and_negatives_of_each_mr_lie_in_its_own_tissue(order: tuple[int, int]) -> None:
    """Scales differ by a factor of ten, and z-scores of air by the scan: whichever comes first."""
    scans = Balls({"even": ([400.0], 1.0), "mixed": ([100.0, 100, 100, 100, 25], 10.0)})
    rule = IntensityRule(modality="mr", windows=())
    settings = ViewSettings(crop=24, spacing_mm=(5.0, 5.0, 5.0), points=64, candidates=256)
    cases = [scans.balls[number] for number in order]
    samples = samples_of(scans, cases, settings=settings, rule=rule, partner="random")
    for number in range(8):
        sample = samples[number]
        for view in ("q", "k"):
            places_mm = samples.location(sample, view).grid.world(sample[f"candidates_{view}"])
            assert np.linalg.norm(places_mm, axis=1).max() < RADIUS_MM + 12  # three voxels: interpolation at the edge
    alone = samples_of(scans, cases, settings=settings, rule=rule, partner="same")
    for number in range(8):
        sample = alone[number]
        places_mm = alone.location(sample, "q").grid.world(sample["points_q"][sample["valid"]])
        assert np.linalg.norm(places_mm, axis=1).max() < RADIUS_MM + 12


def test_air_in_each_channel_has_its_own_level(store: Store) -> None:
    """In a window that begins below air's HU, air is not the lowest value: it is no tissue for that."""
    rule = IntensityRule(windows=((-2000.0, 500.0), (-200.0, 300.0)))
    samples = samples_of(store, rule=rule, partner="same")
    air = rule.air(samples.cases[samples.ids[0]].stats)
    assert air[0] > -0.5
    for number in range(6):
        sample = samples[number]
        where = samples.location(sample, "q")
        clean = read_grid(store, store.case(where.case), where.grid, rule)
        x, y, z = sample["candidates_q"].astype(int).T
        assert (clean[:, x, y, z] > air[:, None] + 0.05).any(axis=0).all()


def test_wrong_inputs_are_named(store: Store) -> None:
    with pytest.raises(UserError, match="no scans to learn from"):
        samples_of(store, [])
    with pytest.raises(UserError, match="need a pairs table"):
        samples_of(store, partner="matched")
    with pytest.raises(UserError, match="no scan pair of the pairs table"):
        samples_of(store, partner="matched", pairs=ShiftedPairs([("a", "b")]))
