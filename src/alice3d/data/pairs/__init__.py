"""Matched points between patients: the table, the maps its rows define, and what they are worth."""

from alice3d.data.pairs.table import PairRows, PairsTable

__all__ = ["PairRows", "PairsTable"]
