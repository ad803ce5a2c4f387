"""Probes against hand-made oracles: neighbours against scikit-learn, landmarks found by features that tell places."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Store
from alice3d.evaluation.features import FeatureSimilarity, FrozenScan, ProbeScan, Reading, freeze, lattice, probe_scan
from alice3d.evaluation.probe import nearest_classes
from alice3d.evaluation.retrieval import describe_errors, most_similar, retrieve
from alice3d.geometry import Grid, diagonal_affine
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.backbones.registry import build_backbone

READING = Reading(IntensityRule(), (8.0, 8.0, 8.0), 16, torch.device("cpu"))


def test_neighbours_equal_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    bank, asked = (torch.nn.functional.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (300, 200))
    classes = np.random.default_rng(0).integers(0, 4, 300)
    for neighbours in (1, 7, 15):
        oracle = KNeighborsClassifier(neighbours, metric="cosine", algorithm="brute").fit(bank, classes)
        np.testing.assert_array_equal(nearest_classes(asked, bank, classes, neighbours), oracle.predict(asked))


def placed(case: str, shift: tuple[float, ...], marks: dict[str, tuple[float, ...]]) -> FrozenScan:
    """A scan of 11³ cells whose feature at anatomy a, which lies at a + shift mm, is a itself, one of many hot."""
    side = 11
    cells = np.argwhere(np.ones((side,) * 3, bool))
    grid = Grid((side,) * 3, diagonal_affine((2.0, 2.0, 2.0), np.array(shift)))
    points = {name: np.array(at) + shift for name, at in marks.items()}
    hot = torch.eye(side**3)
    at = [np.ravel_multi_index(tuple(int(v) // 2 for v in marks[name]), (side,) * 3) for name in sorted(marks)]
    empty = (np.zeros((0, 3), np.int64), np.zeros(0, np.int64))
    box = (tuple(grid.world(np.zeros(3))), tuple(grid.world(np.full(3, side - 1.0))))
    scan = ProbeScan(case, np.zeros((0, 0, 0, 0)), np.ones((side,) * 3, bool), grid, box, points, *empty)
    return FrozenScan(scan, cells, 1, hot.half(), hot[at], torch.zeros(0, side**3))


def test_features_that_tell_places_find_landmarks_exactly():
    marks = {"a": (10.0, 10.0, 10.0), "b": (12.0, 10.0, 8.0)}
    scans = [
        placed("p", (0, 0, 0), marks),
        placed("q", (100, -30, 7), marks),
        placed("r", (5, 5, 5), {"a": marks["a"]}),
    ]
    similarity = FeatureSimilarity([one.at_cells for one in scans], [11**3], [1])
    found = retrieve(scans, similarity, [("p", "q"), ("q", "p"), ("p", "r")])
    assert sorted(zip(found.query, found.key, found.structure, strict=True)) == [
        ("p", "q", "a"),
        ("p", "q", "b"),
        ("p", "r", "a"),
        ("q", "p", "a"),
        ("q", "p", "b"),
    ]
    np.testing.assert_allclose(found.error_mm, 0, atol=1e-2)
    np.testing.assert_allclose(found.box_mm, 0, atol=1e-6)
    scores = describe_errors(found, found.error_mm)
    assert scores["within_5mm"] == 1
    assert scores["by_structure"]["a"]["points"] == 3


def test_the_peak_is_found_between_cells():
    cells = np.argwhere(np.ones((12, 12, 12), bool)) * 2
    true = np.array([[9.0, 11.0, 10.4]])

    def code(places):  # nearer places are more similarity
        angle = torch.tensor(places, dtype=torch.float32)[:, :, None] * torch.tensor([0.05, 0.1])
        return torch.nn.functional.normalize(torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(1), dim=1)

    found = most_similar(code(true), code(cells), cells, 2)
    assert np.abs(found - true).max() < 0.5


def test_similarity_is_the_weighted_mean_of_the_levels_cosines():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 7, generator=generator) * 3 + 2
    similarity = FeatureSimilarity([features[:20], features[20:]], [3, 4], [1, 3])
    x = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    cosines = [torch.nn.functional.normalize(part, dim=1) for part in (x[:, :3], x[:, 3:])]
    expected = 0.25 * cosines[0] @ cosines[0].T + 0.75 * cosines[1] @ cosines[1].T
    torch.testing.assert_close(similarity(features) @ similarity(features).T, expected)


class Coordinates(Backbone):
    """Features at stride 1 are the voxels themselves, at stride 2 their means: the features are known."""

    def __init__(self) -> None:
        super().__init__()
        self.in_channels, self.width, self.stride, self.channels, self.strides = 2, 2, 2, [2, 2], [1, 2]
        self.layer = torch.nn.Dropout(0.5)

    def pyramid(self, volume):
        return [self.layer(volume), torch.nn.functional.avg_pool3d(volume, 2)]


def test_features_are_read_whole_and_by_tiles(tiny_store):
    store = Store.open(tiny_store)
    case = store.cases("train")[0]
    values = (0, *case.structures)
    place = case.grid.world(np.array([10.0, 11.0, 12.0]))
    scan = probe_scan(
        store, case, rule=READING.rule, spacing_mm=READING.spacing_mm, points_mm={"x": place}, values=values, voxels=5
    )
    assert set(scan.classes) == set(range(len(values)))
    frozen = freeze(Coordinates().eval(), scan, crop=16, device=READING.device)  # no position-free net: windows
    x, y, z = frozen.cells.T
    np.testing.assert_allclose(frozen.at_cells[:, :2], scan.image[:, x, y, z].T, atol=2e-3)
    np.testing.assert_allclose(frozen.at_points[0, :2], scan.image[:, 10, 11, 12], atol=1e-5)
    x, y, z = scan.voxels.T
    np.testing.assert_allclose(frozen.at_voxels[:, :2], scan.image[:, x, y, z].T, atol=1e-5)
    assert scan.body[tuple(frozen.cells.T)].all()


def test_the_lattice_fits_the_memory():
    wide = build_backbone("resunet", 1, {"widths": [4, 6, 8, 8]})
    cells, step = lattice(np.ones((100, 100, 100), bool), wide)
    assert step == 3
    assert 20_000 < len(cells) <= 50_000
    assert lattice(np.ones((20, 20, 20), bool), wide)[1] == 1
