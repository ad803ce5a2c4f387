"""The only training loop, its optimiser, checkpoints and log. It knows no task."""
