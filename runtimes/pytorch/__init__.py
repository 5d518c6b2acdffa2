"""PyTorch as a runtime for saved programs."""
