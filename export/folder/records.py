"""The records that a manifest and other documents have in common."""

from typing import Annotated, Self

import msgspec

from export.records import Count, Number, Record, says
from runtimes.interface import OUTPUT, Port
from runtimes.precision import Dtype, Precision
from validation.blame.ranking import Blame
from validation.gates import table
from validation.gates.result import GateResult, KindError
from validation.inputs.golden_set import Kind


class KindRecord(Record, frozen=True, kw_only=True):
    """One kind of golden input under one gate."""

    kind: Annotated[Kind, says("docs/golden-set.md.")]
    worst: Annotated[Number, says("Relative error of the worst image at the worst batch size.")]
    worst_image: Annotated[str, says("Its name.")]
    floor: Annotated[Number, says("Noise floor of the precision on this kind, relative error.")]
    budget: Annotated[Number, says("What was allowed, relative error.")]
    error_over_floor: Annotated[Number, says("worst / floor.")]
    max_abs: Annotated[Number, says("Largest difference of a value.")]
    cosine: Annotated[Number, says("Smallest cosine of the centered values of an image.")]
    snr_db: Annotated[Number, says("Signal-to-noise ratio of the worst image, dB.")]
    kl_nats: Annotated[Number | None, says("Largest KL divergence of the softmax, nats; null of an output that is no "
                                           "logits, where it does not apply.")]  # fmt: skip
    output: Annotated[str, says("Name of the output that was compared.")] = OUTPUT

    @classmethod
    def of(cls, kind: KindError) -> Self:
        """What a gate measured."""
        return cls.from_attributes(kind, error_over_floor=kind.worst / kind.floor)


class GateRecord(Record, frozen=True, kw_only=True):
    """One gate."""

    passed: Annotated[bool, says("Every kind within its own budget.")]
    worst: Annotated[Number, says("Relative error of the kind nearest to its budget, or furthest over it; for the "
                                  "constants gate, how many are wrong.")]  # fmt: skip
    budget: Annotated[Number, says("That kind's budget, in the unit of worst.")]
    floor: Annotated[Number | None, says("That kind's floor, in the unit of worst; null where there is none.")]
    kind: Annotated[Kind | None, says("That kind; null where there is none.")]
    detail: Annotated[str, says("In words.")]
    warning: Annotated[str | None, says("What to know although it passed; null where there is nothing.")] = None
    kinds: Annotated[list[KindRecord], says("Every judged kind; empty for the constants gate and for the rewrite.")] = (
        msgspec.field(default_factory=list)
    )

    @classmethod
    def of(cls, result: GateResult) -> Self:
        """What a gate found."""
        return cls.from_attributes(result, kinds=[KindRecord.of(kind) for kind in result.kinds])


Gates = dict[str, GateRecord | None]
"""Every gate by name; None for those that do not apply."""


def gates_of(results: tuple[GateResult, ...]) -> Gates:
    """Every gate by name; None for those that were not tried."""
    by_name = {result.gate: GateRecord.of(result) for result in results}
    return {name: by_name.get(name) for name in table.names()}


class LayerRecord(Record, frozen=True, kw_only=True):
    """One layer against the model's float64."""

    name: Annotated[str, says("As the file has it.")]
    kind: Annotated[str, says("Of its operation, as the format names it.")]
    module: Annotated[str, says("Path of the module that it stands for.")]
    error: Annotated[Number, says("Relative, of what it gives, against float64.")]
    floor: Annotated[Number, says("The same of PyTorch in this arithmetic.")]
    passed: Annotated[bool, says("Within a multiple of its floor.")]
    low: Annotated[Number, says("Smallest value that it gives.")]
    high: Annotated[Number, says("Largest value that it gives.")]


class SuspectRecord(Record, frozen=True, kw_only=True):
    """A layer or a constant that is likely at fault."""

    module: Annotated[str, says("Path of the model's module; empty where it cannot be told.")]
    constant: Annotated[str | None, says("A constant that is not the model's.")]
    layer: Annotated[LayerRecord | None, says("The layer, or the one that reads the constant.")]
    cause: Annotated[str | None, says("Where the values tell it.")]
    says: Annotated[str, says("All of it, in one line.")]


class BlameRecord(Record, frozen=True, kw_only=True):
    """Where a rejected stage is likely wrong."""

    stage: Annotated[str | None, says("Its name, as in stages.")]
    note: Annotated[str | None, says("What is to be said besides, or why nothing more can be.")]
    suspects: Annotated[list[SuspectRecord], says("The likeliest first.")]

    @classmethod
    def of(cls, stage: str | None, blame: Blame | None) -> Self | None:
        """The stage, and the layers and constants that are likely at fault."""
        if blame is None:
            return None
        suspects = [
            SuspectRecord.from_attributes(
                suspect,
                layer=None if suspect.layer is None else LayerRecord.from_attributes(suspect.layer),
                says=str(suspect),
            )
            for suspect in blame.suspects
        ]
        return cls(stage=stage, note=blame.note, suspects=suspects)


class AttestationRecord(Record, frozen=True, kw_only=True):
    """How the runtime really ran, read back from it."""

    runtime: Annotated[str, says("onnxruntime, openvino, coreml, mil, trt-network or tensorrt.")]
    version: Annotated[str, says("The runtime's version.")]
    precision: Annotated[str, says("Effective arithmetic.", "fp32", "fp16", "bf16", "int8")]
    threads: Annotated[Count, says("Effective threads; 0 where the runtime chose and won't say.")]
    isa: Annotated[str, says("Widest instruction-set extension that it can use on this CPU; on a GPU, its "
                             "architecture, such as sm_89.")]  # fmt: skip
    settings: Annotated[dict[str, str], says("The runtime's own property names and values.")]


class PortRecord(Record, frozen=True, kw_only=True):
    """An 8-bit image or normalized images; logits, an embedding or a stage's map; a label and probabilities."""

    name: Annotated[str, says("In the file.")]
    shape: Annotated[list[int | str], says("Dimensions; `batch`, `height` or `width` for a dynamic one.")]
    dtype: Annotated[str, says("Element type.", "float32", "uint8", "int64", "RGB, 8 bits", "string", "dictionary")]
    layout: Annotated[
        str | None, says("Order of the dimensions; null where there are none.", "NCHW", "NHWC", "NC", None)
    ]
    stride: Annotated[int | None, says("Of a stage's map: the image's pixels for each of its cells; else null.")] = None

    @classmethod
    def of(cls, port: Port, layout: str | None = None, stride: int | None = None) -> Self:
        """An input or output; by default in the layout that its rank has here."""
        usual = "NHWC" if port.dtype == "uint8" else {2: "NC", 4: "NCHW"}.get(len(port.shape))
        return cls(name=port.name, shape=list(port.shape), dtype=port.dtype, layout=layout or usual, stride=stride)


_ARITHMETIC = (Dtype.FP32, Dtype.FP16, Dtype.BF16, Dtype.INT8)


class PrecisionRecord(Record, frozen=True, kw_only=True):
    """Of an artifact."""

    weights: Annotated[Dtype, says(
        "As stored in the file; int7 is int8 of which -64 to 64 are used, --reduce-range.",
        *(each for each in Dtype if each not in (Dtype.UINT8, Dtype.SYMMETRIC8)),
    )]  # fmt: skip
    activations: Annotated[Dtype, says("As the file types its tensors.", *_ARITHMETIC, Dtype.UINT8, Dtype.SYMMETRIC8)]
    execution: Annotated[Dtype, says("Arithmetic under the settings that ship.", *_ARITHMETIC)]
    float_layers: Annotated[list[str], says(
        "Layers of an int8 file that were left in float32, by the names of their nodes; else empty. The operators gate "
        "lets no other be without quantizers."
    )] = msgspec.field(default_factory=list)  # fmt: skip
    equalization: Annotated[dict[str, str], says(
        "Of an int8 file: tensors of the deploy form whose channels were scaled to like ranges, each with a digit d "
        "for a channel, whose factor is 2^((d - 4) / 4). The model computes the same; else empty."
    )] = msgspec.field(default_factory=dict)  # fmt: skip

    @classmethod
    def of(cls, precision: Precision) -> Self:
        """The record of a precision."""
        return cls(**precision.to_json())

    @property
    def value(self) -> Precision:
        """What was recorded."""
        factors = tuple(sorted(self.equalization.items()))
        return Precision(self.weights, self.activations, self.execution, tuple(self.float_layers), factors)
