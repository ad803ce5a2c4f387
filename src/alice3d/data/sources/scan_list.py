"""The scans that a user names, files and folders in any format or a store's cases, by id or by output name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from alice3d import console
from alice3d.data.sources.recognised import claim_labels
from alice3d.data.sources.sources import Source, plain_sources, without_duplicates
from alice3d.data.store import Store
from alice3d.data.store.spec import SPEC
from alice3d.errors import UserError
from alice3d.io.read import check_scan, read_header, read_voxels
from alice3d.io.volume import ScanError, Unoriented, Volume, check_voxels


@dataclass(frozen=True)
class ScanList:
    """Scans that are read on demand.

    Attributes:
        sources: id to file or series; empty for a store.
        store: whose cases the ids are; None for files.
        ids: sorted.
        warnings: for the user.
        unoriented: orientation of a file that gives none.
    """

    sources: dict[str, Source]
    store: Store | None
    ids: tuple[str, ...]
    warnings: tuple[str, ...] = field(default=())
    unoriented: Unoriented = "refuse"

    @classmethod
    def of(cls, paths: Sequence[Path], split: str = "", unoriented: Unoriented = "refuse") -> ScanList:
        """List the scans of a store, or of files and folders.

        Args:
            paths: one store, or any number of files and folders.
            split: of a store: names of the splits to use, comma separated; "" for all.
            unoriented: orientation of a file that gives none.

        Raises:
            UserError: missing, without scans, an unknown split, or a split without a store.
        """
        for path in paths:
            if not path.exists():
                raise UserError(f"{path}: no such file or folder")
        if len(paths) == 1 and (paths[0] / SPEC).is_file():
            store = Store.open(paths[0])
            return cls(
                {}, store, tuple(case.id for case in store.cases() if not split or case.split in _named(store, split))
            )
        if split:
            raise UserError(f"split {split!r}: {paths[0]} is not a store; only stores have splits")
        found = [plain_sources(path, claim=claim_labels, unique=False) for path in paths]
        named = without_duplicates(_distinct([_alone(source) for one in found for source in one.sources]))
        sources = [replace(one, fault=one.fault.replace(", or give a CSV with ids", "")) for one in named]
        # Two scans of the same name are one refused row.
        return cls(
            {source.id: source for source in sources},
            None,
            tuple(sorted({source.id for source in sources})),
            tuple(warning for one in found for warning in one.warnings),
            unoriented,
        )

    def files(self) -> list[Path]:
        """Every file that is read of scans and their labels; [] for a store."""
        return [
            path
            for source in self.sources.values()
            for path in (*(source.files or (source.path,)), source.label)
            if path is not None
        ]

    def state(self, id: str) -> str:
        """Identifies the scan's content: the checksum of a stored case, size and modification time of a file."""
        if self.store is not None:
            return self.store.case(id).checksum
        source = self.sources[id]
        about = [path.stat() for path in source.files or (source.path,) if path.exists()]
        return f"{sum(one.st_size for one in about)}-{max((one.st_mtime_ns for one in about), default=0)}"

    def volume(self, id: str) -> Volume:
        """The scan on its own grid; of a store, on its stored grid.

        Raises:
            ScanError: it cannot be read.
        """
        if self.store is not None:
            return Volume(self.store.image(id)[:, :, :], self.store.case(id).grid.affine)
        source = self.sources[id]
        if source.fault:
            raise ScanError(source.name, source.fault)
        header = read_header(source.path, files=source.files, unoriented=self.unoriented)
        check_scan(header)
        array = read_voxels(header)
        check_voxels(array, source.name)
        return header.volume(array)


def _named(store: Store, split: str) -> set[str]:
    names = {name.strip() for name in split.split(",") if name.strip()}
    for name in names - set(store.splits):
        raise UserError(f"split: the store has no split {name!r}; it has {', '.join(store.splits) or 'none'}")
    return names


def _alone(source: Source) -> Source:
    """A scan without its labels, which do not matter here, several of them included."""
    fault = "" if source.fault.startswith("several labels") else source.fault
    return replace(source, label=None, label_name="", fault=fault)


def _distinct(sources: list[Source]) -> list[Source]:
    """Scans of one file name in several folders are named by folder and file, `s0001_ct`."""
    alike = Counter(source.id.casefold() for source in sources)
    named = []
    for source in sources:
        if alike[source.id.casefold()] > 1 and source.files is None and not source.fault:
            folders = Path(source.name).parent.parts
            source = replace(source, id="_".join((*folders, source.id)))
        named.append(source)
    return named


def find_scans(given: list[Path]) -> dict[str, Source]:
    """Name of the output, relative to the output folder, to its scan.

    A file gives its own name; a folder gives the names of all scans in it, relative to it, and one of its folders for
    each DICOM series. Label maps of known layouts are left out. Scans that would be written under one name get a
    fault, and their own names.

    Raises:
        UserError: missing, or a folder without scans.
    """
    by_name: dict[str, dict[Path, tuple[Path, Source]]] = {}
    for path in given:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        listed = plain_sources(path, claim=claim_labels, unique=False)
        for warning in listed.warnings:
            console.warn(warning)
        for source in listed.sources:
            extension = ".nii" if source.path.name.lower().endswith(".nii") else ".nii.gz"
            inside = source.files is None and path.is_dir()
            folder = source.path.relative_to(path).parent if inside else Path()
            name = (folder / f"{source.id}{extension}").as_posix()
            first = source.files[0] if source.files else source.path
            by_name.setdefault(name, {})[first.resolve()] = (path, _alone(source))
    found: dict[str, Source] = {}
    for name, scans in by_name.items():
        if len(scans) == 1:
            found[name] = next(source for _, source in scans.values())
            continue
        for path, source in scans.values():
            others = [other.name for _, other in scans.values() if other is not source]
            fault = f"two scans would be written as {name}, the other is {others[0]}; predict them into two folders"
            own = source.name if source.name not in (name, *others) else f"{path.name}/{source.name}"
            found[own if own not in found else str(source.path)] = replace(source, fault=fault)
    return found


def readable(found: dict[str, Source], refused: dict[str, str], unoriented: Unoriented = "refuse") -> dict[str, Source]:
    """The scans with a valid header; the others go into `refused` with a warning."""
    kept = {}
    for name, source in found.items():
        if source.fault:
            refuse(name, source.fault, refused)
            continue
        try:
            check_scan(read_header(source.path, files=source.files, unoriented=unoriented))
            kept[name] = source
        except ScanError as error:
            refuse(name, error.reason, refused)
    return kept


def refuse(name: str, reason: str, refused: dict[str, str]) -> None:
    """Record why a scan is left out, and warn."""
    refused[name] = reason
    console.warn(f"{name} is refused: {reason}")
