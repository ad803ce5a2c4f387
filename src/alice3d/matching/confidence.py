"""Confidence of matches: a hand-set rule, or a model of the error that was calibrated on landmarks, kept in the
card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from alice3d.data.pairs.correspondence import Correspondence
from alice3d.errors import UserError
from alice3d.geometry import Grid
from alice3d.matching.embedding import EmbeddedScan

MATCH_FEATURES = {
    "similarity": "mean cosine of the point's and the match's embeddings, -1 .. 1",
    "cycle_mm": "distance from the point after matching the match back",
    "edge_mm": "how far the point lies beyond the faces of its own scan; negative inside",
    "beyond_mm": "how far the match (of a map: the predicted position) lies beyond the faces of the key scan",
    "apart_mm": "distance of the direct match from the final one (of a pairs table row: from the other rows' map)",
    "certainty": "certainty of the fitted map at the point, 0 .. 1",
}
"""Features of a match; the last two need a map between the scans."""
IN_BODY = "in_body"
"""Beside the features that models read: 1 where the match lies in the key's body, else 0."""
Kind = Literal["direct", "robust", "rows"]
KINDS: dict[Kind, tuple[str, ...]] = {
    "direct": ("similarity", "cycle_mm", "edge_mm", "beyond_mm"),
    "robust": tuple(MATCH_FEATURES),
    "rows": tuple(MATCH_FEATURES),
}
"""Kinds of match, and the features each has: each point by itself, near the map's prediction, a row of the pairs
table."""
MOST_MM = 50.0
"""Errors are clipped here when the expected error is fitted."""
FAR_MM, GROSS_MM = 10.0, 20.0
"""Errors whose probability is predicted."""
SPANS_MM = {"beyond_mm": (-24.0, 40.0), "edge_mm": (-80.0, 40.0)}
"""Distances beyond a scan's faces are clipped to these ranges. Points near the end of their own scan have less
context and are matched worse, over a longer range."""


def transformed(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """A feature as the model's input: logarithm of lengths, clipped distances to a face, others unchanged."""
    given = np.asarray(values, np.float64)
    if name in ("cycle_mm", "apart_mm"):
        return np.asarray(np.log1p(np.clip(given, 0, 2 * MOST_MM) / 4.0))
    if name in SPANS_MM:
        return np.asarray(np.clip(given, *SPANS_MM[name]))
    return given


@dataclass(frozen=True)
class ErrorModel:
    """Predicts a match's error from its features: is the anatomy outside the key scan, and if not, how large is the
    error?

    Logistic models of the first and of the error's limits, a log-linear one of its size, all over the same inputs. A
    single model of both predicted errors within the scan worse: points outside are so easy that they dominate the fit.

    Attributes:
        inputs: names of features, s of them.
        centre, scale: (s,) mean and standard deviation of the transformed features.
        outside: (1 + s,) intercept and weights of the log odds that the point lies outside the key scan.
        far_10mm, far_20mm: (1 + s,) the same for an error above 10 and above 20 mm inside it.
        log_mm: (1 + s,) the same for the logarithm of the expected error in mm inside it.
        most_far: matches with a probability of an error above 10 mm up to this are accepted.
    """

    inputs: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    outside: tuple[float, ...]
    far_10mm: tuple[float, ...]
    far_20mm: tuple[float, ...]
    log_mm: tuple[float, ...]
    most_far: float

    @classmethod
    def from_card(cls, values: Mapping[str, Any], where: str) -> Self:
        """Read it from a card.

        Raises:
            UserError: something is missing, unknown, not a number, or of another length than its inputs.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            raise UserError(f"{where}: needs {', '.join(sorted(names))}; run alice calibrate-matcher again")
        unknown = [name for name in values["inputs"] if name not in MATCH_FEATURES]
        if unknown:
            raise UserError(f"{where}: inputs: no feature {unknown[0]!r}; known are {', '.join(MATCH_FEATURES)}")
        try:
            numbers = {name: tuple(float(x) for x in values[name]) for name in names - {"inputs", "most_far"}}
            most = float(values["most_far"])
        except (TypeError, ValueError):
            raise UserError(f"{where}: holds a value that is not a number; run alice calibrate-matcher again") from None
        count = len(values["inputs"])
        for name, row in numbers.items():
            if len(row) != count + (name not in ("centre", "scale")) or not np.isfinite(row).all():
                raise UserError(f"{where}: {name} does not fit {count} inputs; run alice calibrate-matcher again")
        return cls(inputs=tuple(values["inputs"]), most_far=most, **numbers)

    def to_card(self) -> dict[str, Any]:
        """Plain values for a card."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def standard(self, features: MatchFeatures) -> NDArray[np.float64]:
        """Standardised features (n, s)."""
        columns = [transformed(name, features[name]) for name in self.inputs]
        return np.asarray((np.stack(columns, axis=-1) - np.array(self.centre)) / np.array(self.scale))

    def _linear(self, features: MatchFeatures, weights: tuple[float, ...]) -> NDArray[np.float64]:
        return np.asarray(self.standard(features) @ np.array(weights[1:]) + weights[0])

    def outside_probability(self, features: MatchFeatures) -> NDArray[np.float64]:
        """Probability (n,) that the point's anatomy lies outside the key scan."""
        return _sigmoid(self._linear(features, self.outside))

    def probability(self, features: MatchFeatures, above_mm: float = FAR_MM) -> NDArray[np.float64]:
        """Probability (n,) of an error above 10 or 20 mm; a match of a point outside the key scan counts as one."""
        weights = self.far_10mm if above_mm == FAR_MM else self.far_20mm
        return 1 - (1 - self.outside_probability(features)) * (1 - _sigmoid(self._linear(features, weights)))

    def expected_mm(self, features: MatchFeatures) -> NDArray[np.float64]:
        """Expected error (n,) in mm, at most `MOST_MM`, which is the error of points outside the key scan."""
        outside = self.outside_probability(features)
        shown = np.exp(np.minimum(self._linear(features, self.log_mm), np.log(MOST_MM)))
        return np.asarray(outside * MOST_MM + (1 - outside) * shown)


def _sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -30, 30))))


@dataclass(frozen=True)
class Acceptance:
    """Hand-set rule of acceptance without a calibrated model; a card may hold its own under matching.acceptance.

    Attributes:
        similarity: at least this mean cosine.
        cycle_mm: at most this cycle error.
        fit_mm: at most this distance from the map of the pair's other matches (rows of the pairs table only).
        certainty: at least this certainty of the fitted map (robust mode only).
    """

    similarity: float = 0.5
    cycle_mm: float = 12.0
    fit_mm: float = 15.0
    certainty: float = 0.45

    def accepts(self, kind: Kind, features: MatchFeatures) -> NDArray[np.bool_]:
        """Which matches (n,) are accepted."""
        accepted = (features["similarity"] >= self.similarity) & (features["cycle_mm"] <= self.cycle_mm)
        if kind == "rows":
            accepted &= features["apart_mm"] <= self.fit_mm
        if kind == "robust":
            accepted &= features["certainty"] >= self.certainty
        return np.asarray(accepted)


@dataclass(frozen=True)
class ErrorEstimate:
    """Estimated errors of matches.

    Attributes:
        accepted: (n,) bool.
        far_10mm, far_20mm: (n,) probability of an error above 10 and above 20 mm; NaN where no model is fitted.
        expected_mm: (n,) expected error; NaN where no model is fitted.
    """

    accepted: NDArray[np.bool_]
    far_10mm: NDArray[np.float64]
    far_20mm: NDArray[np.float64]
    expected_mm: NDArray[np.float64]


@dataclass(frozen=True)
class Confidence:
    """Confidence model of a matcher.

    Attributes:
        acceptance: the rule without a model.
        models: by kind of match; for all kinds or none.
    """

    acceptance: Acceptance
    models: dict[Kind, ErrorModel]

    @classmethod
    def from_card(cls, matching: Mapping[str, Any]) -> Self:
        """From a card's `matching`: its `acceptance` and its `trust`, both optional.

        Raises:
            UserError: the values are invalid.
        """
        where = "matcher card: matching.trust"
        given = matching.get("trust", {})
        models = given.get("models", {}) if isinstance(given, Mapping) else None
        if not isinstance(models, Mapping) or (models and set(models) != set(KINDS)):
            raise UserError(f"{where}: models for {', '.join(KINDS)} are needed; run alice calibrate-matcher again")
        read = {kind: ErrorModel.from_card(models[kind], f"{where}.models.{kind}") for kind in KINDS if models}
        return cls(Acceptance(**matching.get("acceptance", {})), read)

    @property
    def checksum(self) -> str:
        """SHA-256 of the models' coefficients; "" where there is none. It is separate from that of the weights."""
        if not self.models:
            return ""
        numbers = {kind: model.to_card() for kind, model in self.models.items()}
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()

    @property
    def uncalibrated(self) -> Confidence:
        """The hand-set rule alone."""
        return Confidence(self.acceptance, {})

    def estimate(self, kind: Kind, features: MatchFeatures) -> ErrorEstimate:
        """Estimate errors; without a map (no `certainty` among the features) only direct matches are accepted.

        Nor is a match accepted outside the key's body, where the features say so (`IN_BODY`).
        """
        found = self._estimate(kind, features)
        return replace(found, accepted=found.accepted & (features[IN_BODY] > 0)) if IN_BODY in features else found

    def _estimate(self, kind: Kind, features: MatchFeatures) -> ErrorEstimate:
        rows = len(features["similarity"])
        nothing = np.full(rows, np.nan)
        if kind != "direct" and "certainty" not in features:
            unsure = np.ones(rows) if self.models else nothing
            return ErrorEstimate(np.zeros(rows, bool), unsure, unsure, MOST_MM * unsure)
        if not self.models:
            return ErrorEstimate(self.acceptance.accepts(kind, features), nothing, nothing, nothing)
        model = self.models[kind]
        far = model.probability(features)
        gross = np.minimum(model.probability(features, GROSS_MM), far)  # two separate fits may cross at the ends
        return ErrorEstimate(far <= model.most_far, far, gross, model.expected_mm(features))


MatchFeatures = dict[str, NDArray[np.float64]]
"""Name of a feature to its values (n,)."""


def beyond_mm(grid: Grid, points_mm: NDArray[Any]) -> NDArray[np.float64]:
    """How far points (n, 3) RAS mm lie beyond the nearest of a scan's six faces, in mm; negative inside."""
    index = grid.index(points_mm)
    over = np.maximum(-0.5 - index, index - (np.asarray(grid.shape) - 0.5)) * grid.spacing_mm
    farthest: NDArray[np.float64] = over.max(axis=1)
    return farthest


def position_features(
    query: EmbeddedScan,
    key: EmbeddedScan,
    points_mm: NDArray[Any],
    found_mm: NDArray[Any],
    field: Correspondence | None,
) -> MatchFeatures:
    """The features of position; all but `similarity`, `cycle_mm` and `apart_mm`.

    Args:
        points_mm, found_mm: (n, 3) RAS mm in the query and in the key.
        field: the map between them; None leaves its features out.
    """
    points = np.asarray(points_mm, np.float64)
    edge = beyond_mm(query.grid, points)
    if field is None:
        return {"edge_mm": edge, "beyond_mm": beyond_mm(key.grid, found_mm)}
    return {"edge_mm": edge, "beyond_mm": beyond_mm(key.grid, field.map(points)), "certainty": field.certainty(points)}
