"""Loss functions, each tested against a slow reference implementation."""
