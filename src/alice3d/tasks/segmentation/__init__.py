"""Segmentation: samples, objective, linear head, model, scores."""
