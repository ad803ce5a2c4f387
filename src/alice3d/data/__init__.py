"""Scans into stores, and samples out of them."""
