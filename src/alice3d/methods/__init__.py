"""Self-supervised objectives, one file each; each names the sampler it learns from."""
