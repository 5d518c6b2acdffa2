"""What the layers of an artifact should give: every tensor of the model that it was made from, with its own floor."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from efficientvit.copies import copied
from runtimes.precision import Dtype, Precision
from runtimes.reader import Layer
from runtimes.runtime import Mode
from validation.blame.capture import Captured, capture
from validation.blame.matching import Right, RightTensor
from validation.metrics import Float64
from validation.reference.emulation import as_executed, with_rounded_weights
from validation.reference.floors import SMALLEST_FLOOR
from validation.reference.model import ReferenceModel
from validation.reference.reference import network_inputs


def right_tensors(
    model: ReferenceModel,
    precision: Precision,
    calls: Sequence[Sequence[int]],
    image_input: bool,
    mode: Mode,
    *,
    trained: bool = False,
) -> Right:
    """Of the deploy form with the weights that `precision` stores, on these golden images.

    With `trained` also of the trained form, which another tool may have exported. In Mode.ORACLE floors are of float32
    arithmetic, else of the precision's own.
    """
    activations = Dtype.FP32 if mode is Mode.ORACLE or precision.quantized else precision.rounding
    inputs = torch.tensor(network_inputs(model.golden, image_input=image_input))
    stored = model.stored(precision, image_input=image_input)
    parts = [inputs[list(rows)] for rows in calls]
    shipped = stored if activations is Dtype.FP32 else as_executed(stored, precision)
    tensors = list(_tensors("d", shipped, copied(stored).double(), parts, activations))
    if trained:
        plain = with_rounded_weights(model.trained, precision)
        tensors += _tensors("t", plain, copied(plain).double(), parts, activations)
    return Right(tuple(tensors), constant_modules(stored))


def constant_modules(module: nn.Module) -> dict[str, str]:
    """Name of a constant, as any of our files has it -> path of the module that it belongs to."""
    result: dict[str, str] = {}
    for name in module.state_dict():
        owner = name.rsplit(".", 2 if name.rsplit(".", 1)[-1].isdigit() else 1)[0]
        for ending in ("", "_quantized", "_scale", "_zero_point"):
            result[f"{name}{ending}"] = result[f"{name}{ending}".replace(".", "_")] = owner
    return result


def _tensors(
    prefix: str, plain: nn.Module, exact: nn.Module, parts: Sequence[Tensor], activations: Dtype
) -> Iterator[RightTensor]:
    floors = [capture(plain, part, activations) for part in parts]
    right = [capture(exact, part.double()) for part in parts]
    smallest = SMALLEST_FLOOR[activations]
    for rough, meant in zip(zip(*floors, strict=True), zip(*right, strict=True), strict=True):
        first: Captured = meant[0]
        layer = Layer(
            first.layer.name,
            first.layer.kind,
            tuple(f"{prefix}{name}" for name in first.layer.gives),
            tuple(f"{prefix}{name}" for name in first.layer.reads),
        )
        values: tuple[Float64, ...] = tuple(each.value.numpy() for each in meant)
        floor = max(
            float((a.value - b.value).norm() / b.value.norm().clamp_min(1e-300))
            for a, b in zip(rough, meant, strict=True)
        )
        yield RightTensor(layer, values, max(floor, smallest), first.place)
