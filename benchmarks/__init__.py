"""What measures the project and is not part of it: the trained smoke-test checkpoint, and comparisons of speed."""
