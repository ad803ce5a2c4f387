"""Labelled tasks, one folder each: samples, objective, model, scores; shared code is next to them."""
