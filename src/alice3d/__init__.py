"""Alice: self-supervised anatomy learning from unlabelled 3D scans."""

__version__ = "0.1.0"
