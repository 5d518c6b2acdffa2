"""Every fault that is planted in files, target by target."""

from export.selftest.faults.coreai import files as coreai_files
from export.selftest.faults.coreai import graph as coreai_graph
from export.selftest.faults.coreai import interface as coreai_interface
from export.selftest.faults.coreai import weights as coreai_weights
from export.selftest.faults.coreml import compressed, dtypes, files, image, interface, labels
from export.selftest.faults.coreml import graph as coreml_graph
from export.selftest.faults.coreml import weights as coreml_weights
from export.selftest.faults.fault import Fault
from export.selftest.faults.onnx import graph, quantized, weights
from export.selftest.faults.onnx import wrapped as onnx_wrapped
from export.selftest.faults.openvino import ir
from export.selftest.faults.openvino import quantized as ir_quantized
from export.selftest.faults.openvino import wrapped as ir_wrapped
from export.selftest.faults.tensorrt import file, network

_ONNX = (weights, graph, quantized, onnx_wrapped)
_OPENVINO = (ir, ir_quantized, ir_wrapped)
_COREML = (coreml_weights, files, coreml_graph, dtypes, image, labels, interface, compressed)
_COREAI = (coreai_weights, coreai_files, coreai_graph, coreai_interface)
_TENSORRT = (file, network)

FAULTS: tuple[Fault, ...] = tuple(
    fault for module in (*_ONNX, *_OPENVINO, *_COREML, *_COREAI, *_TENSORRT) for fault in module.fault
)

FORMS = tuple(dict.fromkeys((fault.target, fault.variant) for fault in FAULTS))
"""Targets and the variants that something is planted in."""
