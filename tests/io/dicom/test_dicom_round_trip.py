"""A DICOM round trip gives the same store as the scans themselves: image, grid, content and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import write_series
from dicom_label_files import write_seg
from scan_files import affine_of, head_like, oblique, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.io.read import case_id, read_label, read_scan

SHARED = Path(__file__).parents[4] / "shared" / "data"
SCANS = {
    "headneck_ct": (["images/hn_001.nii.gz", "images/hn_15*.nii.gz"], "ct", 4.0),
    "hippocampus_mr": (["images/*_001*.nii.gz", "images/*_003*.nii.gz", "images/*_004*.nii.gz"], "mr", 1.0),
    "torso_ct": (["example_ct_sm.nii.gz", "example_ct.nii.gz"], "ct", 3.0),
}


def both_roads(folder: Path, scans: list[Path], labels: dict[str, Path], modality: Any, spacing: float) -> None:
    """Write each scan as DICOM, with its label as a segmentation; prepare both; compare."""
    (folder / "direct").mkdir()
    (folder / "labels").mkdir()
    steps = {}
    for path in scans:
        name, volume = case_id(path), read_scan(path)
        (folder / "direct" / path.name).symlink_to(path)
        array = volume.array
        low = float(np.floor(array.min()))
        whole = bool((array == np.rint(array)).all()) and float(array.max()) - low < 65536
        steps[name] = 1.0 if whole else float((array.max() - low) / 65535)
        series = folder / "dicom" / name
        write_series(
            series, array, volume.affine, intercept=low, slope=steps[name], modality={"ct": "CT", "mr": "MR"}[modality]
        )
        if name in labels:
            label = read_label(labels[name])
            (folder / "labels" / path.name).symlink_to(labels[name])
            names = {
                f"structure {value}": label.array == value for value in (1, 2, 3, 4) if (label.array == value).any()
            }
            write_seg(folder / "dicom" / "seg" / f"{name}.dcm", series, names, volume.affine)
    options = {"spacing_mm": (spacing,) * 3, "modality": modality}
    label_names = {value: f"structure {value}" for value in (1, 2, 3, 4)} if labels else {}
    given = folder / "labels" if labels else None
    prepare(folder / "direct", folder / "s1", PrepareOptions(labels=given, label_names=label_names, **options))
    prepare(folder / "dicom", folder / "s2", PrepareOptions(label_names=label_names, **options))
    one, other = Store.open(folder / "s1"), Store.open(folder / "s2")
    assert [case.id for case in one.cases()] == [case.id for case in other.cases()] == sorted(steps)
    assert not other.refused
    for case in one.cases():
        twin = other.case(case.id)
        np.testing.assert_allclose(twin.grid.affine, case.grid.affine, atol=1e-3)
        np.testing.assert_allclose(other.image(case.id)[:], one.image(case.id)[:], atol=steps[case.id] + 1e-3)
        assert steps[case.id] != 1.0 or twin.content == case.content
        assert twin.labelled == case.labelled == (case.id in labels)
        if case.labelled:
            assert (other.label(case.id)[:] == one.label(case.id)[:]).mean() > 0.9999
            assert twin.structures == case.structures


@pytest.mark.parametrize("name", SCANS)
def test_shared_scans_written_as_dicom_give_the_same_store(tmp_path: Path, name: str) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip("the shared scans are not here")
    patterns, modality, spacing = SCANS[name]
    scans = [path.resolve() for pattern in patterns for path in sorted((SHARED / name).glob(pattern))[:1]]
    assert len(scans) > 1
    labels = {case_id(path): SHARED / name / "labels" / path.name for path in scans}
    both_roads(tmp_path, scans, {k: v.resolve() for k, v in labels.items() if v.exists()}, modality, spacing)


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_generated_scans_written_as_dicom_give_the_same_store(tmp_path: Path, modality: str) -> None:
    scans, labels = [], {}
    for number, affine in enumerate((affine_of(axes="LPS"), affine_of(axes="PLI"), oblique())):
        image: Any = head_like(seed=number)
        if modality == "mr":
            image = ((image + 1100) * 0.37).astype(np.float32)
        scans.append(write_nifti(tmp_path / "made" / f"c{number}.nii.gz", image, affine))
        marked = (head_like(seed=number) > 500).astype(np.uint8)
        labels[f"c{number}"] = write_nifti(tmp_path / "gt" / f"c{number}.nii.gz", marked, affine)
    both_roads(tmp_path, scans, labels, modality, 2.0)
