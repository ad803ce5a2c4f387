"""Objectives, each tested against a slow oracle."""
