"""Faults on the way to a TensorRT engine."""
