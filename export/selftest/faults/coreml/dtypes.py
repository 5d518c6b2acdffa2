"""Faults in the types that a Core ML package declares, and in what float16 can hold."""

import numpy as np

from export.selftest.faults.coreml.package import FLOAT16, FLOAT32, Package, given, giving, inner, opened, text
from export.selftest.faults.fault import Rng, Table, in_file, pick
from runtimes.interface import OUTPUT

fault = Table("coreml", in_file(opened), "fp16 coreml")


@fault("precision", "fp32 coreml")
def through_half(package: Package, rng: Rng) -> None:
    """A tensor cast to fp16 and back in a float32 package."""
    operation = inner(package, rng)
    name = operation.outputs[0].name
    half = package.insert(operation, "cast", f"{name}_half", x=name)
    half.outputs[0].type.tensorType.dataType = FLOAT16
    half.inputs["dtype"].arguments.add().value.CopyFrom(text("fp16"))
    back = package.insert(half, "cast", f"{name}_back", x=f"{name}_half")
    back.outputs[0].type.tensorType.dataType = FLOAT32
    back.inputs["dtype"].arguments.add().value.CopyFrom(text("fp32"))
    package.rewire(name, f"{name}_back", but=[half])


@fault("operators", "fp32 coreml", also=("precision",))
def declared_half(package: Package, rng: Rng) -> None:
    """A tensor of a float32 package declared fp16, with no cast to make it that."""
    inner(package, rng).outputs[0].type.tensorType.dataType = FLOAT16


@fault("operators", program=False)
def declared_single(package: Package, rng: Rng) -> None:
    """A tensor of an fp16 package declared float32: more exact for whoever believes it, and refused by Core ML."""
    inner(package, rng).outputs[0].type.tensorType.dataType = FLOAT32


@fault("operators", program=False)
def contradicting_cast(package: Package, rng: Rng) -> None:
    """A cast to fp16 whose result is declared float32."""
    giving(package, package.maker(OUTPUT), "dtype", "fp16")


@fault("overflow", also=("constants", "structure", "precision", "labels"))
def overflowing(package: Package, rng: Rng) -> None:
    """One layer scaled up and the next scaled down: nothing happens but in fp16, where it is infinite between."""
    ending = pick(rng, ["ffn1_branch", "ffn2_branch"])
    expand = pick(rng, package.weighted(f"{ending}_expand_weight"))
    prefix = given(expand, "weight").partition("_expand_")[0]
    for part, factor in (("expand_weight", 1e4), ("expand_bias", 1e4), ("project_weight", 1e-4)):
        (blob,) = [blob for name, blob in package.blobs().items() if name.startswith(f"{prefix}_{part}")]
        values = blob.values.astype(np.float64) * factor
        assert np.abs(values).max() < 65504
        blob.values = values
