"""Faults in ONNX files."""
