"""Former place of `alice3d.io.write`; kept for one version, for scripts written before it moved."""

from __future__ import annotations

import warnings

from alice3d.io.write import write_label

__all__ = ["write_label"]

warnings.warn("alice3d.data.label_writing has moved to alice3d.io.write", DeprecationWarning, stacklevel=2)
