"""Samples in balanced turns, views that keep left left, features computed once, and the linear head's oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from alice3d import console
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Store
from alice3d.data.tables.classes import Example
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.classification import ClassificationNet
from alice3d.tasks.classification.model import Classifier
from alice3d.tasks.classification.objective import ClassificationTask, frozen_features, solve_linear
from alice3d.tasks.classification.samples import Augmentation, ClassificationSamples, FieldOfView
from alice3d.tasks.settings import BackboneSettings, LinearSettings

STILL = Augmentation(rotation_deg=0, scale=(1, 1), strength=0, shift=0)


def samples(tiny_store, augmentation=STILL, seed=0) -> ClassificationSamples:
    """Three scans of class a, one of class b."""
    store = Store.open(tiny_store)
    examples = [Example(case, None, "b" if n == 2 else "a") for n, case in enumerate(store.cases()[:4])]
    return ClassificationSamples(
        store=store,
        examples=examples,
        classes=("a", "b"),
        rule=IntensityRule(),
        field=FieldOfView(16, (16.0, 16.0, 16.0)),
        augmentation=augmentation,
        seed=seed,
    )


def net(pool="mean") -> ClassificationNet:
    torch.manual_seed(0)
    return ClassificationNet(build_backbone("resunet", 2, {"widths": [4, 6, 8], "blocks": [1, 1]}), 2, pool)


def test_classes_take_turns_and_a_number_gives_one_sample(tiny_store):
    drawn = samples(tiny_store, Augmentation())
    assert [int(drawn[i]["label"]) for i in range(6)] == [0, 1, 0, 1, 0, 1]
    np.testing.assert_array_equal(drawn[3]["image"], samples(tiny_store, Augmentation())[3]["image"])
    assert (drawn[3]["image"] != samples(tiny_store, Augmentation(), seed=1)[3]["image"]).any()


def test_views_never_mirror_unless_asked(tiny_store):
    plain = samples(tiny_store)
    example = plain.examples[0]
    image = plain.view(example, None)
    views = [plain.view(example, np.random.default_rng(n)) for n in range(8)]
    for view in views:
        np.testing.assert_allclose(view, image, atol=2e-3)
    flipping = samples(tiny_store, Augmentation(rotation_deg=0, scale=(1, 1), strength=0, shift=0, mirror=True))
    flipped = [bool(np.allclose(flipping.view(example, np.random.default_rng(n)), image[:, ::-1], atol=2e-3))
               for n in range(8)]  # fmt: skip
    assert 0 < sum(flipped) < 8
    assert not np.allclose(image, image[:, ::-1], atol=0.05)


def test_a_view_is_a_turned_look_at_the_same_place(tiny_store):
    drawn = samples(tiny_store, Augmentation(strength=0))
    example = drawn.examples[0]
    turned = drawn.view(example, np.random.default_rng(1))
    assert turned.shape == (2, 16, 16, 16)
    assert 0 < np.abs(turned - drawn.view(example, None)).mean() < 0.5


def test_features_are_those_of_each_view(tiny_store):
    drawn, model = samples(tiny_store, Augmentation()), net().eval()
    with console.progress("test", 4) as bar:
        features, labels = frozen_features(model, drawn, 2, device=torch.device("cpu"), bar=bar)
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 0, 0]
    with torch.no_grad():
        for row, example in ((0, 0), (4, 2)):
            alone = model.features(torch.from_numpy(drawn.view(drawn.examples[example], None))[None])
            torch.testing.assert_close(features[row], alone[0], rtol=1e-4, atol=1e-5)
    assert not torch.equal(features[0], features[1])


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_pools(pool):
    model = net(pool).eval()
    volume = torch.randn(2, 2, 8, 8, 8)
    with torch.no_grad():
        token, tokens = model.backbone.tokens(volume)
        torch.testing.assert_close(model(volume), model.linear(token if pool == "class" else tokens.mean(dim=1)))


def test_linear_head_equals_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 30 + [1] * 8 + [2] * 14)
    features = torch.randn(52, 5, generator=generator) * torch.tensor([1.0, 5, 0.1, 1, 2]) + labels[:, None] * 0.5
    settings = LinearSettings(ridge=0.01, linear_iterations=50)
    weight, bias, _ = solve_linear(features, labels, 3, settings)
    x = ((features - features.mean(dim=0)) / features.std(dim=0, unbiased=False)).numpy()
    # ours: mean over classes of mean loss + ridge |w|²; theirs: C · sum of weighted losses + |w|² / 2, with weights
    # n / (k · count), whose sum is n
    oracle = LogisticRegression(C=1 / (2 * 0.01 * 52), class_weight="balanced", max_iter=5000, tol=1e-9)
    oracle.fit(x, labels.numpy())
    ours = (features @ weight.T + bias).softmax(dim=1).numpy()
    np.testing.assert_allclose(ours, oracle.predict_proba(x), atol=2e-3)


def test_a_backbone_follows_the_same_controls():
    task = ClassificationTask(net(), BackboneSettings(warm_head=2, layer_decay=0.5), total_steps=9, pretrained=True)
    batch = {"image": torch.randn(2, 2, 8, 8, 8), "label": torch.tensor([0, 1])}
    for step, learns in ((1, False), (2, True)):
        task.zero_grad()
        out = task(batch, step)
        out["loss"].backward()
        assert (task.net.backbone.stem.weight.grad is not None) == learns
        assert task.net.linear.weight.grad is not None
    scales = [group.get("lr_scale", 1.0) for group in task.param_groups()]
    assert scales[0] == 1.0
    assert scales[1:] == sorted(scales[1:])
    assert task.trained() is task.averaged


def test_scores_leave_a_device_without_float64_in_float32(tiny_store):
    """Apple's MPS knows no float64: `double` may be called on the CPU alone."""

    class OnMps(torch.Tensor):
        def double(self):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

        def cpu(self):
            return self.as_subclass(torch.Tensor)

    class Net(torch.nn.Module):
        def forward(self, volume):
            return torch.zeros(len(volume), 2).as_subclass(OnMps)

    store, field = Store.open(tiny_store), FieldOfView(16, (16.0, 16.0, 16.0))
    model = Classifier(Net(), {}, IntensityRule(), (8.0, 8.0, 8.0), ("a", "b"), True, field)
    case = store.cases()[0]
    assert model.scores(store, case, np.mean(case.body_box_mm, axis=0)[None]).tolist() == [[0.5, 0.5]]
