"""Weights on disk, their cards, and their provenance: training scans and code."""
