"""Former place of `alice3d.data.store.read_grid`; kept for one version, for scripts written before it moved."""

from __future__ import annotations

import warnings

from alice3d.data.store.read_grid import read_case, read_grid

__all__ = ["read_case", "read_grid"]

warnings.warn("alice3d.data.volumes has moved to alice3d.data.store.read_grid", DeprecationWarning, stacklevel=2)
