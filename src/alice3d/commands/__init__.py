"""One file a command: its settings and run(); the work is done elsewhere."""
