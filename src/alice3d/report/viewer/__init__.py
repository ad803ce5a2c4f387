"""Scans in a browser."""
