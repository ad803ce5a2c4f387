"""The patient of each scan, and the key that stands for it in a store: never the identifier itself."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from pathlib import Path

from alice3d import console
from alice3d.data.sources.sources import Found, Source
from alice3d.data.store.index import Row
from alice3d.data.store.splits import read_patients
from alice3d.data.store.store import first_of_patient
from alice3d.io.dicom.sorting import patient_of
from alice3d.io.read import reader_of

KEY_DIGITS = 16
NOBODY = {"", "anon", "anonymous", "anonymised", "anonymized", "unknown", "none", "na", "n/a"}
"""Identifiers that many patients share: they name none."""
MANY = 5
"""From so many scans on, one identifier for all of them is reported: it may be a placeholder."""


def known_patients(found: Found, splits: Path | None) -> dict[str, str]:
    """Case id to the patient's identifier, of the cases whose patient is known; it stays in memory.

    The file of splits comes first, then what the layout or the table of scans says, then PatientID of DICOM.

    Args:
        found: the scans.
        splits: JSON file of splits, which may name patients.

    Raises:
        UserError: the file of splits cannot be read.
    """
    patients: dict[str, str] = {}
    for source in found.sources:
        name = (source.patient or _of_file(source)).strip()
        if name.casefold() not in NOBODY:
            patients[source.id] = name
    if len(patients) >= MANY and len(patients) == len(found.sources) and len(set(patients.values())) == 1:
        console.warn(
            f"all {len(patients)} scans bear one patient identifier, so they count as one patient and share a split; "
            "if it is a placeholder, list the scans in a CSV with a column patient"
        )
    return patients | (read_patients(splits) if splits is not None else {})


def _of_file(source: Source) -> str:
    """PatientID of a DICOM file or folder that a list names, "" for other formats."""
    if source.fault or source.files or reader_of(source.path) is not None:
        return ""
    return patient_of(source.path)


def new_salt() -> str:
    """Random text for `patient_keys`: without it a key could be found by trying identifiers."""
    return secrets.token_hex(16)


def patient_keys(patients: Mapping[str, str], salt: str) -> dict[str, str]:
    """Case id to the key of its patient: a salted hash. Blanks around an identifier and its case do not count.

    Args:
        patients: case id to identifier.
        salt: of the store.
    """
    keys = {}
    for name, patient in patients.items():
        words = f"{salt}\0{patient.strip().casefold()}".encode("utf-8", "surrogateescape")
        keys[name] = hashlib.sha256(words).hexdigest()[:KEY_DIGITS]
    return keys


def patients_with(rows: list[Row], names: set[str], keys: Mapping[str, str]) -> dict[str, str]:
    """Case id to the first case id of its patient, over the store's cases and others.

    Args:
        rows: of the store.
        names: ids of further cases.
        keys: from `patient_keys`, of some of them; they win over those of the rows.
    """
    stored = {row["id"]: row["patient"] or row["id"] for row in rows if row["status"] == "taken"}
    return first_of_patient({**{name: name for name in names}, **stored, **keys})
