"""Evaluation of encoders and matchers: frozen features, landmarks, calibration."""
