"""Segmentation: samples, objective, linear head, model, components, scores."""
