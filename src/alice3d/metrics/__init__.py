"""Scores and their confidence intervals, in numpy."""
