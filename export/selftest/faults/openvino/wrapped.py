"""Faults around the network of an IR that takes photos and names the best classes."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.selftest.faults.fault import Rng, Table, in_file, next_up
from export.selftest.faults.openvino.ir import replaced, saved_again

fault = Table[Path]("openvino", in_file(nullcontext), "wrapped wrap")


def _changed(path: Path, name: str, change: Callable[[NDArray[Any]], object]) -> None:
    """Put another value into a constant."""
    import openvino.opset13 as ops

    from runtimes.openvino.package import import_openvino

    model = import_openvino().Core().read_model(path)
    (constant,) = (each for each in model.get_ops() if each.get_friendly_name() == f"preprocessing/{name}")
    other = ops.constant(np.asarray(change(constant.data.copy()), constant.data.dtype))
    other.set_friendly_name(constant.get_friendly_name())
    for reader in constant.output(0).get_target_inputs():
        reader.replace_source_output(other.output(0))
    saved_again(model, path)


@fault("pixels", program=False)
def sharper_filter(path: Path, rng: Rng) -> None:
    """Rows are resized with the bicubic filter of OpenCV and PyTorch, whose a is -3/4."""
    for name, value in (("inner_0", 1.25), ("inner_1", -2.25), ("outer_0", -0.75), ("outer_1", 3.75)):
        _changed(path, f"width/{name}", lambda _, value=value: value)  # type: ignore[misc]  # bound now
    _changed(path, "width/outer_2", lambda _: -6)
    _changed(path, "width/outer_3", lambda _: 3)


@fault("pixels", program=False)
def narrower_filter(path: Path, rng: Rng) -> None:
    """Columns are resized with half the antialiasing."""
    _changed(path, "height/2", lambda _: 1)


@fault("pixels", program=False)
def rounded_down(path: Path, rng: Rng) -> None:
    """Rows are cut off to whole numbers, not rounded."""
    _changed(path, "rows_half", lambda _: 0)


@fault("pixels", program=False)
def means_of_other_channels(path: Path, rng: Rng) -> None:
    """Mean and standard deviation are those of B, G, R."""
    for name in ("mean", "std"):
        _changed(path, name, lambda value: value[:, ::-1])


@fault("wrapping", program=False)
def last_bit_of_the_mean(path: Path, rng: Rng) -> None:
    """The channels' means are off by a unit in the last place, which no image shows."""
    _changed(path, "mean", next_up)


@fault("answers", program=False)
def worst_classes(path: Path, rng: Rng) -> None:
    """The least probable classes are named."""
    replaced(path, 'mode="max"', 'mode="min"')
