"""Whose image a DICOM file is: patient, study, series and frame of reference together, since anonymisers repeat any one
of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
TAGS = (*PATIENT, "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber", "Modality")
"""Tags that tell one scan from another; only compared in memory, never shown, logged or written."""
FEW = 3
"""From this many slices on that each have an identity of their own, the identifiers are taken for damaged."""
Item = TypeVar("Item")


class Identity(NamedTuple):
    """Identifiers of one image, blanks and case removed; "" where the file has none.

    Attributes:
        patient: values of `PATIENT`.
        study, series, frame: UIDs.
        number: SeriesNumber.
        modality: such as ct.
    """

    patient: tuple[str, ...]
    study: str
    series: str
    frame: str
    number: str
    modality: str

    def fields(self) -> tuple[str, ...]:
        """All identifiers, one after the other."""
        return (*self.patient, *self[1:])

    def may_be(self, other: Identity) -> bool:
        """Whether two images with missing identifiers may be of one series: none contradicts, study or frame agree."""
        pairs = zip(self.fields(), other.fields(), strict=True)
        if any(mine != theirs for mine, theirs in pairs if mine and theirs):
            return False
        return any(mine and mine == theirs for mine, theirs in ((self.study, other.study), (self.frame, other.frame)))


def plain(value: Any) -> str:
    """The value of a tag without padding, case and the empty components of a name."""
    return " ".join(str(value if value is not None else "").replace("\0", " ").split()).rstrip("^ ").casefold()


def identity_of(dataset: Any) -> Identity:
    """Identifiers of a dataset that was read with `TAGS`."""
    study, series, frame, number, modality = (plain(dataset.get(tag)) for tag in TAGS[len(PATIENT) :])
    return Identity(tuple(plain(dataset.get(tag)) for tag in PATIENT), study, series, frame, number, modality)


def patient_key(dataset: Any) -> str:
    """A digest of PatientID, to compare a label object's with its scan's; "" where there is none."""
    patient = plain(dataset.get("PatientID"))
    return hashlib.sha256(patient.encode()).hexdigest()[:16] if patient else ""


def told_apart(items: Iterable[tuple[Identity, Item]]) -> tuple[list[list[Item]], bool]:
    """Images that claim one series, grouped by identity.

    An identity with missing parts joins the one that it may be, if no two of those contradict each other. Where nearly
    every image has an identity of its own, an anonymiser has drawn identifiers file by file: they stay together.

    Returns:
        the groups, in the order of their first image; and whether identifiers change from image to image.
    """
    groups: dict[Identity, list[Item]] = {}
    for identity, item in items:
        groups.setdefault(identity, []).append(item)
    for identity in sorted(groups, key=lambda one: one.fields().count(""), reverse=True):
        if "" not in identity.fields():
            break
        near = [other for other in groups if other != identity and identity.may_be(other)]
        if near and all(one == two or one.may_be(two) for one in near for two in near):
            groups[min(near, key=lambda one: one.fields().count(""))] += groups.pop(identity)
    found: Sequence[list[Item]] = list(groups.values())
    if len(found) >= FEW and sum(len(group) == 1 for group in found) > len(found) // 2:
        return [[item for group in found for item in group]], True
    return list(found), False
