"""Supervised tasks on top of an encoder."""
