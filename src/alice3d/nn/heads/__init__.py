"""Heads on an encoder: segmentation, classification, embedding, prototypes."""
