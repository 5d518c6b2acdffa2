"""Faults that are planted on purpose: the gates are tested by them, here and on anybody's own checkpoint."""
