"""What every exported graph has in common: the names of its ports, and the opsets that can be asked for."""

INPUT, OUTPUT, BATCH = "image", "logits", "batch"

DEFAULT_OPSET = 18
"""ONNX Runtime 1.14 (2023), OpenVINO 2023 and TensorRT 10 read it, with IR version 8."""

OPSETS = range(18, 24)
