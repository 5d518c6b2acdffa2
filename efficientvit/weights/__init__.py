"""Weights from wherever they come: published, a file, or drawn by a rule."""
