"""Classification of points or scans: samples, objective, model, scores."""
