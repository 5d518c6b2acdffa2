"""What is done to the pairs that ONNX Runtime's quantizer writes: some are taken out, some become symmetric."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.onnx.graph import without_unread
from runtimes.onnx.qdq import DENSE, MOVES


@dataclass(frozen=True, slots=True)
class Pair:
    """A quantizer with its dequantizers, the node before them (None for an input) and those behind.

    `repeated`: what it reads was only moved since it was dequantized by the same scale and zero point.
    """

    forth: Any
    backs: tuple[Any, ...]
    maker: Any | None
    readers: tuple[Any, ...]
    repeated: bool

    @property
    def reader(self) -> str:
        """The kind of the only operator behind it, or nothing."""
        return self.readers[0].op_type if len(self.readers) == 1 else ""


def behind_each_relu_alone(pair: Pair) -> bool:
    """The pair before a ReLU: half of its integers would be for values that the ReLU drops."""
    return pair.reader == "Relu"


def rounded_once(pair: Pair) -> bool:
    """What would round a second time: before a ReLU, between a product and what is added to it, behind a move.

    And what is before a softmax, which computes in floats.
    """
    summed = pair.reader == "Add" and pair.maker is not None and pair.maker.op_type in DENSE
    return pair.repeated or summed or pair.reader in ("Relu", "Softmax")


def without_pairs(model: Any, needless: Callable[[Pair], bool]) -> None:
    """Take out, in place, the pairs that are `needless`."""
    dropped = [pair for pair in _pairs(model.graph) if needless(pair)]
    for pair in dropped:
        instead = {back.output[0] for back in pair.backs}
        for reader in pair.readers:
            for index, name in enumerate(reader.input):
                if name in instead:
                    reader.input[index] = pair.forth.input[0]
    without_unread(model)


def _pairs(graph: Any) -> Iterator[Pair]:
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in graph.output}
    for forth in graph.node:
        if forth.op_type != "QuantizeLinear":
            continue
        backs = readers.get(forth.output[0], [])
        behind = [node for back in backs for node in readers.get(back.output[0], [])]
        if not behind or outputs & {back.output[0] for back in backs}:
            continue
        maker = makers.get(forth.input[0])
        moved = maker
        while moved is not None and moved.op_type in MOVES:
            moved = makers.get(moved.input[0])
        repeated = moved is not maker and moved is not None and list(moved.input[1:]) == list(forth.input[1:])
        yield Pair(forth, tuple(backs), maker, tuple(behind), repeated)


def without_zero_points(model: Any) -> None:
    """Make each activation's range symmetric, in int8, where it has negative values: the larger side decides.

    In place; a range from zero up stays uint8. A zero point costs OpenVINO's kernels a correction for every output, and
    its matrix products can't have any.
    """
    import onnx

    held = {tensor.name: tensor for tensor in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in held]
    for scale_name, zero_name in {(node.input[1], node.input[2]) for node in quantizers}:
        scale, zero = (onnx.numpy_helper.to_array(held[name]) for name in (scale_name, zero_name))
        if zero.dtype != np.uint8 or not zero.any():
            continue
        most = np.float32(max(int(zero), 255 - int(zero)))
        held[scale_name].CopyFrom(onnx.numpy_helper.from_array(scale * most / np.float32(127), scale_name))
        held[zero_name].CopyFrom(onnx.numpy_helper.from_array(np.zeros_like(zero, np.int8), zero_name))
    del model.graph.value_info[:]  # the types of what was quantized are others now
