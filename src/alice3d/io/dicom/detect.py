"""Whether a file is DICOM: by its content, with or without the preamble, or by its name."""

from __future__ import annotations

import struct
from pathlib import Path

from alice3d.io.folders import is_plain

EXTENSIONS = (".dcm", ".dicom", ".ima")
GROUPS = (0x0002, 0x0008)
"""Groups that a data set begins with: of the file's meta information, or of the identification."""
LONGEST_FIRST = 4096
"""More bytes than the first element of a data set holds."""
TEXT_VRS = {b"AE", b"CS", b"DA", b"DT", b"LO", b"SH", b"TM", b"UI", b"UL", b"US", b"OB"}
"""Value representations of the first elements of these groups."""


def starts_like_dicom(head: bytes) -> bool:
    """Whether the first bytes of a file are the preamble with DICM, or the first element of a data set without it.

    Args:
        head: the first 132 bytes.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 12:
        return False
    for order in "<>":
        group, element = struct.unpack(f"{order}HH", head[:4])
        if group not in GROUPS or element > 0x0100:
            continue
        if head[4:6] in TEXT_VRS:  # explicit VR: two bytes of length, or two reserved and four of length
            long = head[4:6] == b"OB"
            length = struct.unpack(f"{order}I", head[8:12])[0] if long else struct.unpack(f"{order}H", head[6:8])[0]
        else:
            length = struct.unpack(f"{order}I", head[4:8])[0]
        if length <= LONGEST_FIRST and length % 2 == 0 and (element != 0 or length == 4):
            return True
    return False


def holds_dicom(path: Path) -> bool:
    """Whether the content of a file is DICOM; False where it cannot be read."""
    if not is_plain(path):
        return False
    try:
        with path.open("rb") as file:
            return starts_like_dicom(file.read(132))
    except OSError:
        return False


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content, or by its name.

    A file that cannot be read may be one: it is reported, not skipped.
    """
    named = path.name.lower().endswith(EXTENSIONS)
    if not is_plain(path):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except FileNotFoundError:  # a dangling link
        return named
    except OSError:
        return True
    return named or starts_like_dicom(head)
