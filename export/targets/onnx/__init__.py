"""ONNX files, and what other targets are converted from."""
