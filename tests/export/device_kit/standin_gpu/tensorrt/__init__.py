"""A stand-in for enterprise TensorRT, see fake_tensorrt.py."""

import importlib

importlib.import_module("fake_tensorrt").install(globals(), "ENTERPRISE", "0.standin")
