"""The matcher: embeds scans, finds points of one scan in another, and fits the map between two scans."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import nn

from alice3d import console
from alice3d.data.pairs import PairRows
from alice3d.data.pairs.correspondence import MIN_ROWS, Correspondence, fit_correspondence
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.store import Case, Store
from alice3d.errors import UserError
from alice3d.io.volume import Unoriented
from alice3d.matching.confidence import IN_BODY, Confidence, Kind, MatchFeatures, position_features
from alice3d.matching.disk_cache import EmbeddingCache
from alice3d.matching.embedding import EmbeddedScan, body_cells, embed_image
from alice3d.matching.results import Matches, PairFit
from alice3d.matching.search import search_all, search_near
from alice3d.weights.files import find_weights, load_matcher

Mode = Literal["direct", "robust"]
MODES: tuple[Mode, ...] = ("direct", "robust")

FIT_POINTS = 600
"""Points that the map between two scans is fitted to in robust mode, half from each side (0.1 s)."""
REACH_CELLS = 1
"""Robust mode searches again within this many cells of the map's prediction; 2 and 3 allow gross errors again."""
PULL = 0.03
"""Penalty on the similarity of a position one cell away from the map's prediction."""


class Matcher:
    """A trained matcher.

    >>> matcher = Matcher.load("runs/matcher")                      # doctest: +SKIP
    >>> a, b = (matcher.embed_case(store, store.case(name)) for name in ("hn_001", "hn_002"))  # doctest: +SKIP
    >>> matcher.match(a, b, [[10.0, -20.0, 30.0]]).point_mm         # doctest: +SKIP

    Args:
        network: (b, c, x, y, z) to unit-length (fine at stride 2, coarse at stride 8).
        card: as `methods` write it: `intensity`, `spacing_mm`, `matching`.
        checksum: of the weights.
        device: device of the network; everything else runs on the CPU.
        cache: of embeddings on disk.
    """

    def __init__(
        self,
        network: nn.Module,
        card: dict[str, Any],
        checksum: str,
        *,
        device: str | torch.device = "cpu",
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.network = network.eval().to(device)
        self.card, self.checksum, self.device, self.cache = card, checksum, device, cache
        self._told = False
        self.rule = IntensityRule(**card["intensity"])
        x, y, z = (float(mm) for mm in card["spacing_mm"])
        self.spacing_mm = (x, y, z)
        settings = card.get("matching", {})
        self.mode: Mode = settings.get("mode", "robust")
        if self.mode not in MODES:
            raise UserError(f"matcher card: matching.mode is {self.mode!r}, known are {', '.join(MODES)}")
        self.confidence = Confidence.from_card(settings)

    @classmethod
    def load(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        device: str | torch.device = "cpu",
        cache: EmbeddingCache | None = None,
    ) -> Self:
        """A matcher from a shipped name, a run folder or a file.

        Raises:
            UserError: missing, damaged, or not what its card says.
        """
        network, card = load_matcher(name_or_path)
        content = find_weights(name_or_path, "matcher").read_bytes()
        return cls(network, card, hashlib.sha256(content).hexdigest(), device=device, cache=cache)

    def reading_note(self, store: Store) -> str:
        """Note to the user where a store's spacing or windows differ from the matcher's; "" where they do not."""
        said, stored_mm = [], store.spec.spacing_mm
        if not np.allclose(self.spacing_mm, stored_mm, rtol=1e-3):
            own, stored = (" x ".join(f"{mm:g}" for mm in spacing) for spacing in (self.spacing_mm, stored_mm))
            said.append(f"Scans are resampled from {stored} mm to the matcher's {own} mm on reading.")
        if self.rule.modality == "ct" and set(self.rule.windows) != set(store.spec.intensity.windows):
            shown = ", ".join(f"{low:g} to {high:g}" for low, high in self.rule.windows)
            said.append(f"Scans are windowed by the matcher's own windows, {shown} HU, not the store's.")
        return " ".join(said)

    def embed(self, scan: ScanInput) -> EmbeddedScan:
        """Embed a scan; from the cache if it is there."""
        known = self.cache.read(self.checksum, scan.checksum) if self.cache is not None and scan.checksum else None
        if known is not None:
            return known
        fine, coarse = embed_image(self.network, scan.image, scan.air, device=self.device)
        body = body_cells(scan.body, tuple(fine.shape[1:]))
        made = EmbeddedScan(fine, coarse, body, scan.grid, scan.body_box_mm, scan.checksum, self.checksum)
        if self.cache is None or not scan.checksum:
            return made
        try:
            self.cache.write(self.checksum, made)
        except (OSError, SafetensorError) as error:  # the cache saves time, no more
            reason = getattr(error, "strerror", None) or "the disk is full"
            if not self._told:
                console.warn(f"{self.cache.folder}: embeddings cannot be kept ({reason}); they are made again")
            self._told = True
            return self.cache.rounded(made)
        # Read back, so that a new embedding is rounded like a cached one: results do not depend on the cache.
        return self.cache.read(self.checksum, scan.checksum) or self.cache.rounded(made)

    def embed_case(self, store: Store, case: Case) -> EmbeddedScan:
        """Embed a stored scan, read at the matcher's own spacing whatever the store's is; from the cache if it is
        there."""
        known = self.cache.read(self.checksum, case.checksum) if self.cache is not None else None
        return known or self.embed(ScanInput.of_case(store, case, self.rule, self.spacing_mm))

    def embed_file(self, path: str | Path, *, unoriented: Unoriented = "refuse") -> EmbeddedScan:
        """Embed a file, with the same preprocessing as a store's scans.

        Args:
            path: of the scan.
            unoriented: orientation of a file that gives none; `refuse` raises.

        Raises:
            ScanError: unreadable, or not a scan of the matcher's modality.
        """
        return self.embed(ScanInput.of_file(path, self.rule, self.spacing_mm, unoriented=unoriented))

    def match(self, query: EmbeddedScan, key: EmbeddedScan, points_mm: Any, *, mode: Mode | None = None) -> Matches:
        """Find points of the query scan in the key scan; thousands at once take little longer than one.

        Args:
            points_mm: (n, 3) RAS mm in the query scan.
            mode: direct: each point by itself, the most similar position of the whole key; robust: near the prediction
                of a map fitted to matches all over the body. None: the mode of the matcher's card.
        """
        self._require_own(query, key)
        points = np.asarray(points_mm, np.float64).reshape(-1, 3)
        kind = mode or self.mode
        fit = self.fit(query, key) if kind == "robust" else None
        found, features = self.look(query, key, points, kind, fit.correspondence if fit else None)
        estimate = self.confidence.estimate(kind, features)
        return Matches(
            point_mm=found,
            similarity=features["similarity"],
            cycle_mm=features["cycle_mm"],
            certainty=features.get("certainty", np.full(len(points), np.nan if fit is None else 0.0)),
            accepted=estimate.accepted,
            far_10mm=estimate.far_10mm,
            far_20mm=estimate.far_20mm,
            expected_mm=estimate.expected_mm,
            features=features,
            agreement=fit.agreement if fit else None,
        )

    def look(
        self, query: EmbeddedScan, key: EmbeddedScan, points: NDArray[Any], kind: Kind, field: Correspondence | None
    ) -> tuple[NDArray[np.float64], MatchFeatures]:
        """Positions of points (n, 3) RAS mm in the key for a kind of match, and features of the matches.

        Args:
            kind: direct: the most similar position; rows: the same, compared with the map; robust: the most similar
                position near the map's prediction (the most similar of all without a map).
            field: the map; not used by direct.
        """
        vectors = query.at(points)
        found = direct = search_all(vectors, key)
        apart = np.zeros(0)
        if field is not None and kind == "robust":
            found = search_near(vectors, key, field.map(points), reach=REACH_CELLS, pull=PULL)
            apart = np.linalg.norm(direct - found, axis=1)
        elif field is not None and kind == "rows":
            apart = np.linalg.norm(direct - field.map(points), axis=1)
        similarity, cycle = self._check(query, points, vectors, key, found)
        features = {"similarity": similarity, "cycle_mm": cycle, IN_BODY: key.in_body(found).astype(float)}
        features |= position_features(query, key, points, found, None if kind == "direct" else field)
        return found, features | ({"apart_mm": apart} if "certainty" in features else {})

    def _require_own(self, *scans: EmbeddedScan) -> None:
        """Refuse embeddings of another matcher: vectors of two networks cannot be compared."""
        if any(scan.matcher not in ("", self.checksum) for scan in scans):
            raise UserError("embedding: made by another matcher (its checksum differs); embed the scan with this one")

    @staticmethod
    def _check(
        query: EmbeddedScan, points: NDArray[Any], vectors: torch.Tensor, key: EmbeddedScan, found: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Similarity of each match, and its cycle error in mm."""
        there = key.at(found)
        similarity = (vectors * there).sum(dim=1).double().numpy()
        cycle: NDArray[np.float64] = np.linalg.norm(search_all(there, query) - points, axis=1)
        return similarity, cycle

    def fit(self, query: EmbeddedScan, key: EmbeddedScan, *, points: int = FIT_POINTS) -> PairFit:
        """Match points all over both bodies there and back, and fit a robust affine and a smooth field to them.

        Half of the rows start from a lattice in the query, half from one in the key (the row then holds the match in
        the query first): so both bodies are covered, and the inverse map is as good. A first fit accepts or rejects
        rows, the map is fitted to the accepted ones, as for the pairs table.
        """
        self._require_own(query, key)
        sides = []
        for here, there, columns in ((query, key, (0, 1)), (key, query, (1, 0))):
            at = body_points(here, points // 2)
            vectors = here.at(at)
            found = search_all(vectors, there)
            ends = (at, found)
            sides.append((ends[columns[0]], ends[columns[1]], *self._check(here, at, vectors, there, found)))
        at, found, similarity, cycle = (np.concatenate(parts) for parts in zip(*sides, strict=True))
        features: MatchFeatures = {"similarity": similarity, "cycle_mm": cycle, "apart_mm": np.full(len(at), np.inf)}
        if len(at) >= MIN_ROWS:
            first, features["apart_mm"] = fit_correspondence(at, found, prior_weight(similarity, cycle))
            features |= position_features(query, key, at, found, first)
        estimate = self.confidence.estimate("rows", features)
        rows = PairRows(
            query_mm=at.astype(np.float32),
            key_mm=found.astype(np.float32),
            similarity=similarity.astype(np.float32),
            cycle_mm=cycle.astype(np.float32),
            fit_mm=features["apart_mm"].astype(np.float32),
            far_10mm=estimate.far_10mm.astype(np.float32),
            accepted=estimate.accepted,
        )
        keep = rows.accepted
        made = fit_correspondence(rows.query_mm[keep], rows.key_mm[keep])[0] if rows.usable else None
        agree = self.confidence.acceptance.accepts("rows", features)
        return PairFit(rows, made, float(agree.mean()) if len(agree) else 0.0)


def prior_weight(similarity: NDArray[np.float64], cycle_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prior weight of a match before it is compared with its neighbours."""
    trust: NDArray[np.float64] = np.clip(similarity, 0.01, 1) ** 2 / (1 + (cycle_mm / 10.0) ** 2) ** 2
    return trust


def body_points(scan: EmbeddedScan, count: int) -> NDArray[np.float64]:
    """About `count` points (n, 3) RAS mm on a regular lattice within the body; deterministic."""
    inside = scan.cells.numpy()
    if not len(inside):
        return np.zeros((0, 3))
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    step = (len(inside) / count) ** (1 / 3)
    axes = [np.arange(a + step / 2, b, step) - 0.5 for a, b in zip(low, high, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    x, y, z = np.clip(np.rint(places).astype(int), 0, np.array(scan.body.shape) - 1).T
    return scan.cell_mm(places[scan.body.numpy()[x, y, z]])
