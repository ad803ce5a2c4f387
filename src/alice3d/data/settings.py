"""Settings of preparing; importing them costs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from alice3d.config import Reads, ScanFilesConfig, Writes

Volume = Annotated[str, Field(pattern=r"^(\d{1,6}|first|mean|)$")]
"""Of files with several volumes: a number from 0, first or mean."""


class PrepareConfig(ScanFilesConfig):
    """`alice prepare SCANS STORE [--labels DIR] [--splits FILE]`, or `alice prepare --verify STORE`."""

    positional: ClassVar[tuple[str, ...]] = ("scans", "store")
    scans: Annotated[Path, Reads()]
    """Folder of scans (searched recursively; DICOM and the layouts of nnU-Net, Decathlon, MONAI, LiTS, BraTS, BIDS,
    TotalSegmentator and KiTS are recognised), one file, a CSV with a column image (and label, id, split, patient), or a
    JSON file of lists such as dataset.json."""
    store: Annotated[Path, Writes()]
    """Folder of the store; the same call again resumes, or adds new scans."""
    labels: Annotated[Path | None, Reads()] = None
    """Folder of label maps, named like their scans."""
    splits: Annotated[Path | None, Reads()] = None
    """JSON file, split name to list of ids; without it the splits are those that the data set declares (lists or
    folders of training, validation and test cases), else the patients with labelled cases are split 70/10/20 into
    train, val and test, and the others go to pretrain. Cases of one patient are never in two splits."""
    label_names: Annotated[str, Reads()] = ""
    """Names of label values: a JSON file (a dataset.json is accepted) or 1=liver,2=spleen; other values are then
    refused."""
    spacing: str = "auto"
    """Voxel size in mm, one number or three (R,A,S); auto: the median of the headers, or what the store has."""
    modality: Literal["auto", "ct", "mr"] = "auto"
    """Modality: ct (Hounsfield units) or mr (any other values); auto takes it from the DICOM headers, or else guesses
    it from the values."""
    crop: Literal["body", "none"] = "body"
    """Crop to the body, or keep the whole field of view."""
    volume: Volume = ""
    """Volume to take of a 4D file: its number from 0, first or mean; without it such files are refused."""
    channel: str | None = None
    """Channel to use where a case has several: its number (_0000, _0001), or the name of an MR sequence (t1, t1ce, t2,
    flair); without it such cases are refused."""
    jobs: Annotated[int, Field(ge=1)] = 1
    """Processes; each holds one scan in memory at a time."""
    windows: str = ""
    """CT windows that the store records for models: soft_tissue, lung, bone, brain, body, wide or LOW:HIGH in HU, with
    comma separated for several channels; the stored values stay Hounsfield units."""
    shard: str = ""
    """I/N: process every N-th case from the I-th on, as one call of a job array; all calls fill one store, and a last
    call without --shard merges them and processes what is missing."""
    dask: str = ""
    """Address of a Dask scheduler whose workers process the cases; needs alice3d[dask] and a shared file system."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the default split."""
    overwrite: bool = False
    """Replace a store that was made with other settings."""
    prune: bool = False
    """Remove cases from the store whose scans are gone from SCANS; without it they are named."""
    verify: bool = False
    """Compare every file of the store with its checksum, and do nothing else; SCANS may be left out."""
    dry_run: bool = False
    """Read the headers, report what every file is taken for and which scans would be accepted, write nothing."""

    @classmethod
    def by_place(cls, words: list[str], options: Mapping[str, Any]) -> list[str]:
        """SCANS STORE; with --verify the scans are not read, and STORE alone is enough."""
        return words * 2 if options.get("verify") is True and len(words) == 1 else words

    def is_writing(self) -> bool:
        """Whether the call writes anything."""
        return not self.verify

    @field_validator("channel", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else value

    @field_validator("spacing")
    @classmethod
    def _numbers(cls, text: str) -> str:
        if text == "auto":
            return text
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            raise ValueError("one number of mm, three (R,A,S), or auto are possible") from None
        if len(values) not in (1, 3) or not all(0.01 <= mm <= 100 for mm in values):
            raise ValueError("one number of mm, three (R,A,S), or auto are possible, from 0.01 to 100")
        return text

    @field_validator("shard")
    @classmethod
    def _part(cls, text: str) -> str:
        match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
        if text and not (match and 1 <= int(match[1]) <= int(match[2])):
            raise ValueError("I/N with 1 <= I <= N is needed, such as 3/8")
        return text

    def shard_of(self) -> tuple[int, int] | None:
        """`shard` as (position from 1, count)."""
        position, _, count = self.shard.partition("/")
        return (int(position), int(count)) if count else None

    def spacing_mm(self) -> tuple[float, float, float] | Literal["auto"]:
        """`spacing` as three numbers along R, A, S."""
        if self.spacing == "auto":
            return "auto"
        values = [float(part) for part in self.spacing.split(",")]
        x, y, z = values if len(values) == 3 else values * 3
        return x, y, z
