"""Hierarchical dense contrast: vox2vec with scales that count alike, and restoration of the unchanged crop."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from alice3d.config import Config
from alice3d.methods.vox2vec import Vox2Vec, Vox2VecConfig


class KatsConfig(Vox2VecConfig):
    """Settings of hierarchical dense contrast."""

    level_width: Annotated[int, Field(ge=0)] = 32
    """Each scale is brought to this width by one linear layer first, so that all count alike; 0 = not."""
    restore_weight: Annotated[float, Field(ge=0)] = 10.0
    """Weight of restoring the crop without intensity changes from the finest map."""


class Kats(Vox2Vec):
    """Dense contrast on all scales with restoration (Kats, Hirsch, Heinrich, ISBI 2024).

    The linear layers of the scales are trained; in the published code they keep their random weights. Its changes of
    the crop (local shuffling, intensity curves, in-painting) are not used: crops are changed as for every method here.
    """

    Config: ClassVar[type[Config]] = KatsConfig
    paper: ClassVar[str] = "Kats, Hirsch, Heinrich, ISBI 2024"
