"""What an encoder or a matcher knows: frozen features, landmarks, calibration."""
