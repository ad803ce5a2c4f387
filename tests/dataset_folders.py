"""Folders of small scans and labels as nnU-Net lays them out, and the options to prepare them by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scan_files import head_like, write_nifti

from alice3d.data.prepare import PrepareOptions

OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")


def image(path: Path, seed: int = 0) -> Path:
    return write_nifti(path, head_like(seed=seed))


def label(path: Path, value: int = 1) -> Path:
    return write_nifti(path, (head_like() > 500).astype(np.uint8) * value)


def nnunet(folder: Path, **more: Any) -> Path:
    for name in ("a", "b", "c"):
        image(folder / "imagesTr" / f"liver_{name}_0000.nii.gz")
        label(folder / "labelsTr" / f"liver_{name}.nii.gz")
    image(folder / "imagesTs" / "liver_t_0000.nii.gz")
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz", **more}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder
