"""From a store to an encoder or a matcher: job, warm start, monitors, collapse guard."""
