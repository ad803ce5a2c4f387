"""The only training loop, its optimiser, checkpoints and log. Independent of methods and tasks."""
