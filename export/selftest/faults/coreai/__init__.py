"""Faults in Core AI assets."""
