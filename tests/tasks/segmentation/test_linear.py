"""The linear head: its solution against scikit-learn, its voxels against the net."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from alice3d.console import Progress
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Store
from alice3d.data.store.read_grid import read_case
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.segmentation import LinearSegmentationNet
from alice3d.tasks import base
from alice3d.tasks.segmentation import linear
from alice3d.tasks.segmentation.linear import LinearFit, Voxels, draw_by_stratum, solve_linear, strata_of
from alice3d.tasks.segmentation.samples import class_values
from alice3d.tasks.settings import LinearSettings

RESUNET = ("resunet", {"widths": [4, 6, 8, 8]})
VIT = ("vit", {"patch": 8, "width": 24, "depth": 4, "heads": 2})


def voxels(n: int = 400, contoured: bool = True) -> Voxels:
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (n,), generator=generator)
    centres = torch.tensor([[0.0, 0, 0, 0], [3, 0, 1, 0], [0, 30, 0, 0]])
    features = centres[classes] + torch.tensor([1.0, 10, 1, 5]) * torch.randn(n, 4, generator=generator) + 2
    shown = torch.ones(n, 3, dtype=torch.bool)
    if not contoured:
        shown[: n // 2, 2] = False
        classes[: n // 2][classes[: n // 2] == 2] = 0
    return Voxels(features, classes, shown, torch.ones(n))


def test_cross_entropy_part_equals_scikit_learn(monkeypatch):
    given = voxels()
    calls = []

    def only_first(loss_of, parameters, iterations):
        calls.append(loss_of)
        return minimise(loss_of, parameters, 500) if len(calls) == 1 else 0.0

    minimise = base.minimise
    monkeypatch.setattr(linear, "minimise", only_first)
    ridge = 1e-3
    weight, bias, _ = solve_linear(given, LinearSettings(ridge=ridge), structure_weight=1.0)
    mean, std = given.features.mean(dim=0), given.features.std(dim=0)
    x = ((given.features - mean) / std).numpy()
    oracle = LogisticRegression(C=1 / (2 * ridge * len(x)), tol=1e-8, max_iter=2000).fit(x, given.classes.numpy())
    ours = (given.features @ weight.T + bias).softmax(dim=1).numpy()
    np.testing.assert_allclose(ours, oracle.predict_proba(x), atol=5e-3)


def test_solution_separates_and_dice_lowers_the_loss():
    given = voxels()
    weight, bias, loss = solve_linear(given, LinearSettings())
    found = (given.features @ weight.T + bias).argmax(dim=1)
    assert (found == given.classes).float().mean() > 0.85
    assert loss < 0.6


def test_what_was_not_contoured_is_not_taught_as_background():
    given = voxels(contoured=False)
    truth = voxels().classes
    weight, bias, _ = solve_linear(given, LinearSettings())
    found = (given.features @ weight.T + bias).argmax(dim=1)
    hidden = (truth == 2) & (given.classes == 0)
    assert hidden.sum() > 30
    assert (found[hidden] == 2).float().mean() > 0.7


def test_strata_and_weights():
    classes = np.zeros((12, 12, 12), np.int64)
    classes[5:7, 5:7, 5:7] = 1
    strata = strata_of(classes, 2)
    assert set(np.unique(strata)) == {0, 1, 2}
    assert strata[5, 5, 8] == 2
    assert strata[0, 0, 0] == 0
    index, weight = draw_by_stratum(strata, 20, np.random.default_rng(0))
    assert len(index) == 8 + 20 + 20
    assert len(np.unique(index, axis=0)) == len(index)
    assert weight.sum() == pytest.approx(12**3)


@pytest.mark.parametrize(("name", "options"), [RESUNET, VIT])
def test_drawn_features_are_those_the_net_classifies(tiny_store, name, options):
    torch.manual_seed(0)
    store = Store.open(tiny_store)
    cases = store.cases("train")
    values = class_values(cases)
    net = LinearSegmentationNet(build_backbone(name, 2, options), len(values)).eval()
    fitted = LinearFit(
        net=net,
        store=store,
        cases=cases,
        values=values,
        rule=IntensityRule(),
        spacing_mm=(8.0, 8.0, 8.0),
        crop=16,
        settings=LinearSettings(linear_voxels=30),
        structure_weight=4.0,
        device=torch.device("cpu"),
        seed=0,
    )
    for changed, hard in ((True, False), (False, False), (False, True)):
        drawn = fitted.draw(cases[0], np.random.default_rng(0), hard=hard, changed=changed)
        again = fitted.draw(cases[0], np.random.default_rng(0), hard=hard, changed=changed)
        torch.testing.assert_close(drawn.features, again.features)
        assert drawn.weight.sum() == pytest.approx(np.prod(cases[0].shape), rel=1e-4)
    if name == "resunet":  # one piece: the net's own answer on the padded scan
        image, _ = read_case(store, cases[0], IntensityRule())
        sides = [-(-n // 8) * 8 for n in image.shape[1:]]
        padded = np.stack(
            [
                np.pad(c, [(0, s - n) for s, n in zip(sides, c.shape, strict=True)], constant_values=c.min())
                for c in image
            ]
        )
        with torch.no_grad():
            scores = net(torch.from_numpy(padded)[None])[0].flatten(1).T.numpy()
            ours = net.linear(drawn.features).numpy()
        everywhere = {tuple(np.round(row, 3)) for row in scores}
        assert np.mean([tuple(np.round(row, 3)) in everywhere for row in ours]) > 0.9


def test_solving_learns(tiny_store):
    torch.manual_seed(0)
    store = Store.open(tiny_store)
    cases = store.cases("train")
    values = class_values(cases)
    net = LinearSegmentationNet(build_backbone(*_args(RESUNET)), len(values)).eval()
    before = [p.clone() for p in net.backbone.parameters()]
    settings = LinearSettings(linear_voxels=100, linear_iterations=15)
    shared = {"store": store, "cases": cases, "values": values, "rule": IntensityRule(), "crop": 16}
    fitted = LinearFit(
        net=net,
        spacing_mm=(8.0, 8.0, 8.0),
        settings=settings,
        structure_weight=4.0,
        device=torch.device("cpu"),
        seed=0,
        **shared,
    )
    loss = fitted.solve(Progress("", 4))
    assert loss < 2.0  # ln(classes) + 1 = 3.5 for a head that knows nothing
    assert all(torch.equal(a, b) for a, b in itertools.zip_longest(before, net.backbone.parameters()))


def _args(described):
    name, options = described
    return name, 2, options
