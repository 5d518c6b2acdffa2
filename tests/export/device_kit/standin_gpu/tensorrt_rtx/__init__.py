"""A stand-in for TensorRT for RTX, see fake_tensorrt.py."""

import importlib

importlib.import_module("fake_tensorrt").install(globals(), "RTX", "0.rtx-standin")
