"""Finding the scans, labels and splits of a user's input: files, folders, data set layouts, a store's cases."""
