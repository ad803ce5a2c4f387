"""AnatoMask: SparK whose masks hide more and more of what a moving average of the network rebuilds worst."""

from __future__ import annotations

from typing import Any, ClassVar

from alice3d.config import Config
from alice3d.methods.masked_reconstruction import Share
from alice3d.methods.spark import SparK, SparKConfig


class AnatoMaskConfig(SparKConfig):
    """Settings of AnatoMask."""

    hardest: tuple[Share, Share] = (0.0, 0.5)
    """Share of the hidden patches, at the first and at the last step, that are those which a moving average of the
    network rebuilds worst; the rest is random."""


class AnatoMask(SparK):
    """SparK with masks from easy to hard (AnatoMask, Li et al., ECCV 2024, section 3).

    Every objective that rebuilds patches takes such masks by `--options.hardest 0,0.5`; this is the published one.
    """

    Config: ClassVar[type[Config]] = AnatoMaskConfig
    paper: ClassVar[str] = "Li et al., ECCV 2024, arXiv 2407.06468"
    defaults: ClassVar[dict[str, Any]] = {"mask_ratio": 0.6}
