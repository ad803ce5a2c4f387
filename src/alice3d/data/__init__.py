"""From a user's scans to what a network reads."""
