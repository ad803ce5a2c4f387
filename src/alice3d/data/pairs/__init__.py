"""Matched points between patients: the table, the maps that its rows define, and their quality."""

from alice3d.data.pairs.table import PairRows, PairsTable

__all__ = ["PairRows", "PairsTable"]
