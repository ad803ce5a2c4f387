"""Scores and their uncertainty; numpy in, numbers out."""
