"""Files in and out: every image format read and checked, label maps written. Nothing else opens a scan."""
