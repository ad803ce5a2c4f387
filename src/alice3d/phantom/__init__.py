"""Synthetic torso CT whose labels, landmarks and correspondences are known exactly."""
