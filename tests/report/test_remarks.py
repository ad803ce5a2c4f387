"""Remarks on a store: some of every kind are shown however many there are, and the rest is counted."""

import nibabel as nib
import numpy as np
import pytest

from alice3d.commands.inspect import InspectConfig, run
from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.data.store.inspection import by_kind, outliers

METRES = "header's unit is metre, converted to mm"


@pytest.fixture
def store(tmp_path):
    """Thirty scans, of which most were in metres, one is 4D, and one has wide voxels."""
    (tmp_path / "scans").mkdir()
    for number in range(30):
        rng = np.random.default_rng(number)
        image = np.full((12, 12, 12), -1000, np.int16)
        image[3:-3, 3:-3, 2:-2] = rng.integers(0, 40, (6, 6, 8))
        spacing = 9.0 if number == 28 else 3.0
        unit = ("mm", 1.0) if number > 24 else ("meter", 1e-3)
        volume = image[..., None] if number == 29 else image
        scan = nib.Nifti1Image(volume, np.diag([spacing * unit[1]] * 3 + [1.0]))
        scan.header.set_xyzt_units(unit[0])
        nib.save(scan, tmp_path / "scans" / f"c{number:02d}.nii")
    prepare(tmp_path / "scans", tmp_path / "s", PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct"))
    return tmp_path / "s"


def test_a_common_remark_neither_vanishes_nor_hides_others(store, capsys):
    result = run(InspectConfig(store=store))
    said = capsys.readouterr().out.splitlines()
    page = (store / "inspect.html").read_text(encoding="utf-8")
    assert sum(outlier["what"] == METRES for outlier in result["unusual"]) == 25
    assert [line for line in said if METRES in line] == [
        *(f"c{number:02d}: {METRES}" for number in range(3)),
        f"... and 22 more: {METRES}",
    ]
    assert "c29: 4D with one volume, taken as 3D" in said
    assert "c28: spacing along R (mm) is 9, median is 3" in said
    shown = METRES.replace("'", "&#x27;")
    assert page.count(shown) == 21
    assert "and 5 more" in page
    assert "4D with one volume, taken as 3D" in page
    assert page.count("(see above): three planes") == 22


def test_notes_that_differ_in_numbers_are_of_one_kind(store):
    opened = Store.open(store)
    for number, case in enumerate(opened.cases()[:4]):
        object.__setattr__(case, "notes", f"structure {number} lies outside the stored box; left out: name {number}")
    kinds = {kind: len(its) for kind, its in by_kind(outliers(opened)).items()}
    assert kinds["structure N lies outside the stored box"] == 4
    assert kinds["left out"] == 4
    assert list(kinds.values()) == sorted(kinds.values())
