"""One scan onto one grid: reorient, find the body, resample, normalise."""
