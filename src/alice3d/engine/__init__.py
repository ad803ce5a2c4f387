"""The only training loop, its optimiser, checkpoints and log."""
