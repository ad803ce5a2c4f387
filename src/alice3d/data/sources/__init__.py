"""Which scans, labels and splits a user means: files, folders, data set layouts, a store's cases."""
