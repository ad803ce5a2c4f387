"""From a user's scans to the inputs of a network."""
