"""PyTorch as a runtime: a module in memory, a saved program."""
