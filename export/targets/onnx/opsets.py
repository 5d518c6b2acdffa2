"""The ONNX opsets that can be asked for."""

DEFAULT_OPSET = 18
"""ONNX Runtime 1.14 (2023), OpenVINO 2023 and TensorRT 10 read it, with IR version 8."""

OPSETS = range(18, 24)
