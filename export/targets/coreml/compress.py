"""Stage `compress`: large weights of a Core ML package as int8 or as indices into a palette, by coremltools.optimize.

Which tensors, and what is to be left of them, is decided in efficientvit/deploy/compression.py; coremltools writes
the form.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.deploy.compression import Half, compressible, palette
from efficientvit.model import EfficientViT
from export.targets.coreml.package import save, without_classifier
from export.targets.coreml.validated_once import validated_once
from runtimes.artifact import Artifact, Interface
from runtimes.coreml.mlpackage import load_program
from runtimes.coreml.reader import source_name
from runtimes.host.machine import versions
from runtimes.precision import PALETTE_BITS, Dtype, Precision


def compress(source: Artifact, deploy: EfficientViT, out: Path, weights: Dtype, interface: Interface) -> Artifact:
    """Write `source`, a package with fp16 weights, with its compressible weights in the form `weights`."""
    import coremltools as ct
    from coremltools.optimize import coreml as optimize

    chosen = {name.replace(".", "_") for name in compressible(deploy)}
    names = [name for name in load_program(source.path).constants if source_name(name) in chosen]
    plain = out.with_name("plain.mlpackage")
    shutil.copytree(source.path, plain)
    if interface.labels:
        without_classifier(plain)
    model = ct.models.MLModel(str(plain), skip_model_load=True)
    if weights is Dtype.INT8:
        form = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=0)
        shrink = optimize.linear_quantize_weights
    else:
        form = optimize.OpPalettizerConfig(
            mode="custom", lut_function=_table(PALETTE_BITS[weights]), weight_threshold=0
        )
        shrink = optimize.palettize_weights
    with validated_once():
        smaller = shrink(model, optimize.OptimizationConfig(op_name_configs=dict.fromkeys(names, form)))
    save(smaller, out, interface)
    shutil.rmtree(plain)
    precision = Precision(weights, source.precision.activations, source.precision.execution)
    return source.becomes(out, "compress", precision=precision, tools=versions("coremltools"), interface=interface)


def _table(bits: int) -> Any:
    return lambda weight: palette_table(weight.astype(np.float16), bits)


def palette_table(weight: Half, bits: int) -> tuple[Half, NDArray[np.uint8]]:
    """Entries and indices as coremltools takes them: a power of two of entries, the last one repeated to fill up."""
    entries, indices = palette(weight, bits)
    count = max(2, 1 << (len(entries) - 1).bit_length())
    return np.pad(entries, (0, count - len(entries)), mode="edge"), indices
