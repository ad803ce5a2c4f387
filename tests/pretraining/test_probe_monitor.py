"""A probe while an encoder learns: it leaves no trace in the training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Store
from alice3d.data.tables.landmarks import read_landmarks
from alice3d.evaluation.features import Reading
from alice3d.nn.backbones.registry import build_backbone
from alice3d.pretraining.pretrain import monitor_inputs, probe_monitor

READING = Reading(IntensityRule(), (8.0, 8.0, 8.0), 16, torch.device("cpu"))


def test_a_look_in_training_leaves_no_trace(tiny_store, tiny_scans):
    store = Store.open(tiny_store)
    landmarks = read_landmarks(tiny_scans.landmarks, {case.id for case in store.cases()})
    inputs = monitor_inputs(store, store.cases("train"), READING, landmarks, voxels=5)
    backbone = build_backbone("resunet", 2, {"widths": [4, 6, 8, 8]})
    backbone.train()
    backbone.stem.eval()  # a part that its owner keeps frozen
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    seen = probe_monitor(backbone, inputs)
    assert backbone.training
    assert not backbone.stem.training
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert all(p.grad is None for p in backbone.parameters())
    assert seen == probe_monitor(backbone, inputs)
    assert 0 <= seen["probe_knn_accuracy"] <= 1
    assert 0 < seen["probe_landmark_mm"] < 500
    with pytest.raises(KeyError):
        probe_monitor(backbone, monitor_inputs(store, store.cases("pretrain"), READING))["probe_landmark_mm"]
