"""Viewer of two scans in the browser."""
