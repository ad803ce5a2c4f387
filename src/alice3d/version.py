"""Name and version of the package, in one place."""

PROGRAM = "alice3d"
__version__ = "0.1.0"
