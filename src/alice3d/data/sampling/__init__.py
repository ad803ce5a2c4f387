"""What a network reads: crops drawn by seed and number, their masks and augmentation, and whole scans."""
