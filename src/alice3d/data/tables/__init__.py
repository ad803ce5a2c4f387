"""CSV files of the user: landmarks, classes, label names."""
