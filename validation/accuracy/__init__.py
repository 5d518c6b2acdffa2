"""Top-1 on labeled images, and whether a loss is real."""
