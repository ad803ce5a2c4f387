"""The grids of crops: turned and scaled within their settings."""

from __future__ import annotations

import numpy as np

from alice3d.data.sampling.crops import ViewSettings, random_matrix


def test_views_turn_and_scale_but_never_mirror() -> None:
    rng = np.random.default_rng(0)
    settings = ViewSettings(rotation_deg=180.0, spacing_mm=(2.0, 3.0, 4.0))
    for _ in range(50):
        matrix = random_matrix(settings, rng)
        assert np.linalg.det(matrix) > 0
        lengths = np.linalg.norm(matrix, axis=0) / settings.spacing_mm
        np.testing.assert_allclose(lengths, lengths[0])
        assert 0.8 <= lengths[0] <= 1.25
