"""The number formats of stored weights, activations and arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Dtype(StrEnum):
    """A format of weights, activations or arithmetic.

    The last three are of stored weights alone: indices of 8, 6 or 4 bits into a palette for each tensor. INT8 weights
    have a scale for each output channel, INT8 activations one for the tensor. UINT8 and SYMMETRIC8 are of activations
    alone: a scale and a zero point for the tensor, which ONNX Runtime's kernels take; a scale and no zero point, uint8
    where nothing is negative and int8 elsewhere, which OpenVINO's take. INT7 is of weights beside UINT8: int8, of
    which only -64 to 64 are used, so that two products fit into the 16 bits in which x86 without VNNI adds them.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT7 = "int7"
    UINT8 = "uint8"
    SYMMETRIC8 = "symmetric8"
    PALETTE8 = "palette8"
    PALETTE6 = "palette6"
    PALETTE4 = "palette4"

    @property
    def compressed(self) -> bool:
        """Weights are compressed: the quality gate applies."""
        return self in (Dtype.INT8, Dtype.INT7, Dtype.PALETTE8, Dtype.PALETTE6, Dtype.PALETTE4)


PALETTE_BITS: Mapping[Dtype, int] = {Dtype.PALETTE8: 8, Dtype.PALETTE6: 6, Dtype.PALETTE4: 4}


@dataclass(frozen=True, slots=True)
class Precision:
    """Weights as stored, activations as the file types them, arithmetic as the shipped settings run it.

    `float_layers`: where activations are quantized, the layers that are left in float32 all the same, by the names of
    their nodes in the ONNX file, sorted. `equalization`: the factors by which the deploy form's channels are scaled
    before int8 rounds them, as `efficientvit.deploy.equalization` has them: group and a digit for each channel,
    sorted.
    """

    weights: Dtype = Dtype.FP32
    activations: Dtype = Dtype.FP32
    execution: Dtype = Dtype.FP32
    float_layers: tuple[str, ...] = ()
    equalization: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Precision":
        """The inverse of `to_json`; without `float_layers` or `equalization` there are none.

        Raises:
            KeyError, TypeError, ValueError: a field is missing, unknown, or of another kind.
        """
        fields = dict(record)
        layers = tuple(str(name) for name in fields.pop("float_layers", ()))
        factors = tuple(sorted((str(name), str(digits)) for name, digits in fields.pop("equalization", {}).items()))
        return cls(**{name: Dtype(value) for name, value in fields.items()}, float_layers=layers, equalization=factors)

    def to_json(self) -> dict[str, Any]:
        """As manifests and references carry it."""
        return {
            "weights": self.weights,
            "activations": self.activations,
            "execution": self.execution,
            "float_layers": list(self.float_layers),
            "equalization": dict(self.equalization),
        }

    def made_of(self, source: "Precision") -> "Precision":
        """The same, of what was made of an artifact with `source`: it has the same factors."""
        return replace(self, equalization=source.equalization)

    @property
    def float_weights(self) -> frozenset[str]:
        """Names of the weights of `float_layers`; one that multiplies activations has none, and names nothing."""
        return frozenset(f"{name.rpartition('/')[0]}.weight" for name in self.float_layers)

    @property
    def quantized(self) -> bool:
        """Activations are rounded to integers between the layers (Q/DQ), as weights are."""
        return self.activations in (Dtype.INT8, Dtype.UINT8, Dtype.SYMMETRIC8)

    @property
    def quantized_depthwise(self) -> bool:
        """Depthwise convolutions are quantized as the dense ones are: for CPUs, not for TensorRT."""
        return self.activations in (Dtype.UINT8, Dtype.SYMMETRIC8)

    @property
    def rounded_once(self) -> bool:
        """What only moves values reads them rounded, and nothing behind it rounds them again."""
        return self.activations is Dtype.SYMMETRIC8

    @property
    def rounding(self) -> Dtype:
        """What intermediate results are rounded to: as the file types them, or coarser where the runtime is set so."""
        return Dtype.BF16 if self.execution is Dtype.BF16 else self.activations

    @property
    def decoded(self) -> Dtype:
        """What stored weights are once decoded: compressed ones come as the activations are typed."""
        if self.quantized:
            return Dtype.FP32
        return Dtype.FP16 if self.weights.compressed else self.weights
