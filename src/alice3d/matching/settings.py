"""Settings of matching; importing them costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from alice3d.config import ComputeConfig, OutputConfig, Reads


class PairConfig(OutputConfig, ComputeConfig):
    """`alice pair STORE MATCHER OUT`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "matcher", "out")
    uncounted: ClassVar[frozenset[str]] = frozenset({"store", "matcher", "jobs", "csv", "keep_embeddings"})
    store: Annotated[Path, Reads()]
    """Store of scans, made by `alice prepare`."""
    matcher: Annotated[str, Reads()]
    """Matcher: a folder or file of `alice train-matcher`, or the name of a shipped one."""
    split: str = "auto"
    """Splits to pair, comma separated; auto: pretrain and train, or all where no scan is in a split."""
    scan_pairs: Annotated[int, Field(ge=0)] = 0
    """Pairs of scans; 0 = as many as `pairs_per_case` gives."""
    pairs_per_case: Annotated[int, Field(ge=1)] = 2
    """Number of other scans that each scan is matched with as query."""
    points: Annotated[int, Field(ge=50, le=20000)] = 500
    """Points matched per pair of scans, on a lattice over the query's body."""
    embeddings: Literal["fp16", "bf16", "fp32"] = "fp16"
    """Precision of the embeddings on disk; fp32 takes twice the space."""
    keep_embeddings: bool = False
    """Keep the embeddings in OUT/embeddings instead of removing them at the end."""
    csv: bool = False
    """Also write the table as pairs.csv.gz."""
    jobs: Annotated[int, Field(ge=1)] = 1
    """Processes; the result does not depend on it."""
