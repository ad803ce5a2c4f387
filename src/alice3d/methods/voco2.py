"""VoCo v2: as VoCo, with gradient to all crops, and other scans of the batch as bases."""

from __future__ import annotations

from typing import ClassVar, Literal

from alice3d.config import Config
from alice3d.methods.voco import VoCo, VoCoConfig


class VoCo2Config(VoCoConfig):
    """Settings of VoCo v2."""

    teacher: Literal["none", "projector", "all"] = "projector"
    """What a moving average is kept of: nothing, the projector, as published, or everything, as in version 1."""
    negatives: Literal["square", "log"] = "log"
    """How bases without overlap count: version 1 and version 2."""
    between: bool = True
    """Also compare a scan's targets with the bases of the next scan of the batch."""


class VoCo2(VoCo):
    """Volume contrast within and between scans (Large-scale 3D medical pre-training, Wu et al., TPAMI 2025).

    Without the published dropout, which leaves out whole crops instead of features.
    """

    Config: ClassVar[type[Config]] = VoCo2Config
    paper: ClassVar[str] = "Wu et al., TPAMI 2025, arXiv 2410.09890"
