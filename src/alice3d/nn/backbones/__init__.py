"""Encoders behind one interface, found by name."""
