"""Former place of `alice3d.io.read`; kept for one version, for scripts written before it moved."""

from __future__ import annotations

import warnings

from alice3d.io.read import read_header, read_label, read_scan, read_voxels

__all__ = ["read_header", "read_label", "read_scan", "read_voxels"]

warnings.warn("alice3d.data.read has moved to alice3d.io.read", DeprecationWarning, stacklevel=2)
