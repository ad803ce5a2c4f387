"""Damaged DICOM files: each is reported in one line, no other scan suffers, and no tag's text is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dicom_files import PLANTED, write_enhanced, write_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid
from scan_files import affine_of, head_like

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.sources.sources import plain_sources
from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.io.read import read_header, read_voxels
from alice3d.io.volume import ScanError

LPS = affine_of(axes="LPS")
EXPLICIT, GE = b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0"


def series(folder: Path, seed: int = 0, **more: Any) -> list[Path]:
    return write_series(folder, head_like((12, 14, 6), seed=seed), LPS, prefix="1.2.999.4711.", **more)


def frames(count: int) -> Callable[[Any, int], None]:
    return lambda dataset, k: setattr(dataset, "NumberOfFrames", count)


def derived(dataset: Any, k: int) -> None:
    dataset.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]


def value_of(content: bytes, head: bytes, value: bytes) -> bytes:
    """With the value of one element replaced, its length kept."""
    at = content.index(head)
    length = int.from_bytes(content[at + 6 : at + 8], "little")
    return content[: at + 8] + value.ljust(length)[:length] + content[at + 8 + length :]


DAMAGE: dict[str, tuple[Any, Callable[[bytes], bytes], str]] = {
    "type of a tag": (None, lambda b: b.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00UQ"), "damaged slice"),
    "a name among directions": (
        derived,
        lambda b: value_of(b, b"\x20\x00\x37\x00DS", rb"DOE^JANE\0\0\0\1\0"),
        "no position: ImageOrientationPatient",
    ),
    "no frames": (frames(0), bytes, "bad header: NumberOfFrames is 0"),
    "negative frames": (frames(-2), bytes, "bad header: NumberOfFrames is -2"),
    "unknown syntax": (
        None,
        lambda b: b.replace(EXPLICIT, b"1.2.840.10008.1.2.7\0", 1),
        "unsupported transfer syntax: private or unknown",
    ),
    "GE's own syntax": (None, lambda b: b.replace(EXPLICIT, GE, 1), "unsupported transfer syntax: GE private"),
    "colours of a name": (
        None,
        lambda b: value_of(b, b"\x28\x00\x04\x00CS", b"DOE^JANE"),
        "unsupported voxel type: colours",
    ),
    "cut before its size": (None, lambda b: b[: b.index(b"\x28\x00\x10\x00US")], "damaged slice: 000.dcm"),
    "cut in its first tags": (None, lambda b: b[:180], "damaged slice: 000.dcm"),
    "emptied": (None, lambda b: b"", "damaged slice: 000.dcm (empty file)"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_one_damaged_file_never_stops_the_batch(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    change, damage, reason = DAMAGE[kind]
    series(tmp_path / "scans" / "fine", 1)
    path = series(tmp_path / "scans" / "bad", 2, change=change)[0]
    path.write_bytes(damage(path.read_bytes()))
    prepare(tmp_path / "scans", tmp_path / "s", PrepareOptions())
    store = Store.open(tmp_path / "s")
    assert [case.id for case in store.cases()] == ["fine"]
    assert next(why for id, _, why in store.refused if id == "bad").startswith(reason)
    shown = "".join(capsys.readouterr()) + caplog.text + str(store.refused)
    assert not [word for word in PLANTED if word in shown]


def test_a_series_that_may_lack_a_slice_is_refused_and_its_neighbours_are_not(tmp_path: Path) -> None:
    """A damaged file that names its series spoils that one alone."""
    for number in (1, 2):
        paths = series(tmp_path / "ct", number, number=number, name=f"{number}_{{:03d}}.dcm")
    paths[0].write_bytes(paths[0].read_bytes().replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00UQ"))
    found = {source.id: source.fault.split(":")[0] for source in plain_sources(tmp_path / "ct").sources}
    assert found == {"ct_s1": "", "ct_s2": "damaged slice", "2_000.dcm": "damaged file"}


@pytest.mark.parametrize("name", ["005.dcm", "IM5"])
def test_a_slice_that_cannot_be_opened_refuses_its_series(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end slice would go missing without a gap."""
    paths = series(tmp_path / "scans" / "ct", name=name.replace("5", "{}").replace("00", ""))
    series(tmp_path / "scans" / "other", 1)
    (tmp_path / "scans" / "ct" / "notes.txt").write_text("hello")
    locked = paths[2]
    real = Path.open

    def opened(self: Path, *args: Any, **more: Any) -> Any:
        if self == locked:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **more)

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr("pydicom.filereader.open", lambda path, mode: opened(Path(path), mode), raising=False)
    found = {source.id: source.fault for source in plain_sources(tmp_path / "scans").sources}
    reason = "cannot be read: Permission denied"
    expected = f"damaged slice: {locked.name} ({reason}); repair it, or remove it from the folder"
    assert found == {"ct": expected, "other": "", locked.name: reason}
    with pytest.raises(ScanError, match=r"no scan in this folder: damaged slice"):
        read_header(tmp_path / "scans" / "ct")


def test_a_directory_of_files_is_no_lost_slice(tmp_path: Path) -> None:
    """A DICOMDIR lies beside the slices on many a disc."""
    series(tmp_path / "ct")
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID, directory.FileSetID = MediaStorageDirectoryStorage, "DISC"
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.save_as(tmp_path / "ct" / "DICOMDIR", enforce_file_format=True)
    assert [(source.id, source.fault) for source in plain_sources(tmp_path / "ct").sources] == [("ct", "")]


def test_an_overview_picture_among_the_slices_is_kept_apart(tmp_path: Path) -> None:
    def change(dataset: Any, k: int) -> None:
        if k == 0:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    series(tmp_path / "scans" / "ct", change=change)
    found = {source.id: (source.name, source.fault[:9]) for source in plain_sources(tmp_path / "scans").sources}
    assert found == {"ct": ("ct", ""), "ct_localiser": ("ct (localiser)", "localiser")}
    assert read_header(tmp_path / "scans" / "ct").shape == (12, 14, 5)


TAGS = st.sampled_from(
    [
        *(b"\x08\x00" + tag for tag in (b"\x16\x00", b"\x60\x00", b"\x08\x00")),
        *(b"\x20\x00" + tag for tag in (b"\x0e\x00", b"\x11\x00", b"\x32\x00", b"\x37\x00")),
        *(b"\x28\x00" + tag for tag in (b"\x02\x00", b"\x04\x00", b"\x08\x00", b"\x10\x00", b"\x30\x00", b"\x52\x10")),
        b"\x02\x00\x10\x00",
    ]
)
TYPES = st.sampled_from([b"UQ", b"SQ", b"DS", b"IS", b"US", b"OB", b"UN", b"FD", b"PN", b"AT"])


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A DICOM file with tags of another kind or value, bytes changed or lost, or its end cut off."""
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["type", "value", "byte", "byte", "lost", "cut"]))
        at = draw(st.integers(128, max(len(content) - 1, 129)))
        if kind in ("type", "value"):
            at = content.find(draw(TAGS))
            if at < 0:
                continue
        if kind == "type":
            content = content[: at + 4] + draw(TYPES) + content[at + 6 :]
        elif kind == "value":
            value = draw(st.sampled_from([b"DOE^JANE", b"PID-4711", b"0", b"-1", b"1e400", b"nan", b"\\", b"\xff\0"]))
            content = value_of(content, content[at : at + 6], value)
        elif kind == "byte":
            content = content[:at] + draw(st.binary(min_size=1, max_size=2)) + content[at + 1 :]
        elif kind == "lost":
            content = content[:at] + content[at + draw(st.integers(1, 20)) :]
        else:
            content = content[:at]
    return content


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    folder = tmp_path_factory.mktemp("whole")
    slices = write_series(folder / "ct", head_like((6, 5, 3)), LPS, prefix="1.2.999.4711.")
    enhanced = write_enhanced(folder / "e.dcm", head_like((6, 5, 3)), LPS)
    return {"series": [path.read_bytes() for path in slices], "enhanced": [enhanced.read_bytes()]}


@given(data=st.data(), kind=st.sampled_from(["series", "enhanced"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_one_line_without_identifiers(
    whole: dict[str, list[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject, kind: str
) -> None:
    files = list(whole[kind])
    files[0] = data.draw(damaged(files[0]))
    for number, content in enumerate(files):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    for path in [path for path in tmp_path.iterdir() if int(path.stem) >= len(files)]:
        path.unlink()
    words = []
    try:
        found = plain_sources(tmp_path)
        words = [*found.warnings, *(f"{source.id} {source.name} {source.fault}" for source in found.sources)]
        for source in found.sources:
            if not source.fault:
                header = read_header(source.path, files=source.files)
                words += header.notes
                read_voxels(header)
    except UserError as error:
        words.append(str(error))
    shown = "".join(capsys.readouterr()) + "\n".join(words)
    assert not [word for word in PLANTED if word in shown]
