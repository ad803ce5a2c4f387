"""Embeddings on disk, one file per scan, named by the checksums of the matcher and of the scan."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from alice3d.errors import UserError
from alice3d.files import replacing
from alice3d.geometry import Grid
from alice3d.matching.embedding import EmbeddedScan, channels_last

FORMAT_VERSION = "1"
Precision = Literal["fp32", "fp16", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class EmbeddingCache:
    """A folder of embeddings; several processes may use it at once.

    Attributes:
        folder: created when the first embedding is written.
        precision: of the values on disk. fp16 and bf16 take half the space; matches move by 0.001 mm with fp16 and
            0.006 mm with bf16 (`benchmarks/results/matcher`).
    """

    folder: Path
    precision: Precision = "fp16"

    def path(self, matcher: str, scan: str) -> Path:
        """File of one scan's embedding by one matcher."""
        suffix = "" if self.precision == "fp16" else f"_{self.precision}"
        return self.folder / f"{matcher[:16]}_{scan[:32]}{suffix}.safetensors"

    def read(self, matcher: str, scan: str) -> EmbeddedScan | None:
        """The embedding; None where it is missing or damaged, so that it is computed again.

        Raises:
            UserError: the file holds the embedding of another matcher or scan.
        """
        path = self.path(matcher, scan)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in ("fine", "coarse", "body")}
        except (SafetensorError, OSError, ValueError):
            return None
        if about.get("format_version") != FORMAT_VERSION:
            return None
        if about.get("matcher") != matcher or about.get("scan") != scan:
            raise UserError(f"{path.name}: holds the embedding of another matcher or scan; remove {self.folder.name}")
        box = json.loads(about["body_box_mm"])
        x, y, z = json.loads(about["shape"])
        return EmbeddedScan(
            fine=channels_last(tensors["fine"].float()),
            coarse=channels_last(tensors["coarse"].float()),
            body=tensors["body"],
            grid=Grid((x, y, z), np.array(json.loads(about["affine"]), np.float64)),
            body_box_mm=(tuple(box[0]), tuple(box[1])),
            checksum=scan,
            matcher=matcher,
        )

    def rounded(self, scan: EmbeddedScan) -> EmbeddedScan:
        """An embedding as it is read back."""
        dtype = DTYPES[self.precision]
        fine, coarse = (channels_last(values.to(dtype).float()) for values in (scan.fine, scan.coarse))
        return replace(scan, fine=fine, coarse=coarse)

    def write(self, matcher: str, scan: EmbeddedScan) -> None:
        """Write an embedding, atomically."""
        dtype = DTYPES[self.precision]
        about = {
            "format_version": FORMAT_VERSION,
            "matcher": matcher,
            "scan": scan.checksum,
            "affine": json.dumps(scan.grid.affine.tolist()),
            "shape": json.dumps([int(n) for n in scan.grid.shape]),
            "body_box_mm": json.dumps([[float(mm) for mm in corner] for corner in scan.body_box_mm]),
        }
        tensors = {
            "fine": scan.fine.to(dtype).contiguous(),
            "coarse": scan.coarse.to(dtype).contiguous(),
            "body": scan.body.contiguous(),
        }
        with replacing(self.path(matcher, scan.checksum)) as temporary:
            save_file(tensors, temporary, metadata=about)
