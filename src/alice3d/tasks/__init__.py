"""Labelled tasks, one folder each: samples, objective, model, scores; what they share stands beside them."""
