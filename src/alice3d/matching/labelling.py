"""Labels many scans by a few labelled ones, a scan at a time, into label maps on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alice3d.data.sources.scan_list import ScanList
from alice3d.errors import UserError
from alice3d.geometry import Grid
from alice3d.io.volume import ScanError
from alice3d.io.write import write_label
from alice3d.matching.batch import embed_scan
from alice3d.matching.matcher import Matcher
from alice3d.matching.propagation import Atlas, carry_labels


@dataclass(frozen=True, eq=False)
class Labelling:
    """The work of `alice propagate` on a scan (`scan_jobs.ScanWork`).

    Attributes:
        scans: those to label.
        atlases: labelled scans.
        vote: share of the votes that a voxel of a structure needs.
        out: folder of the label maps, case.nii.gz each.
    """

    scans: ScanList
    atlases: Sequence[Atlas]
    vote: float
    out: Path

    def on(self, matcher: Matcher, id: str) -> dict[str, Any]:
        """Write the label map of one scan; how sure each structure is, and the best agreement with an atlas."""
        try:
            volume = self.scans.volume(id)
            x, y, z = volume.array.shape
            scan = embed_scan(self.scans, id, matcher, volume)
            made = carry_labels(matcher, self.atlases, scan, Grid((x, y, z), volume.affine), vote=self.vote)
        except UserError as error:
            return {"reason": error.reason if isinstance(error, ScanError) else str(error)}
        write_label(self.out / f"{id}.nii.gz", made.labels, volume.affine)
        found = {str(value): round(sure, 3) for value, sure in made.certainty.items()}
        return {"certainty": found, "agreement": round(max(made.agreement), 3)}
