"""Weights on disk, their cards, and which scans and code they come from."""
