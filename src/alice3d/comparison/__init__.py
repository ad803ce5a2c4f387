"""Pre-trainings under equal conditions: arms, cells, checks, paired tests."""
