"""What stands on an encoder: segmentation, classification, embedding, prototypes."""
