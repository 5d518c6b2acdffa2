"""Faults in Core ML packages."""
