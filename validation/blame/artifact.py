"""The blame for a rejected file: its own constants and layers, against the model that it was made from.

Every tensor that the layers give is looked for among those of the model (PyTorch, float64, the same rounded weights):
by value, so that it does not matter what a converter called it, how it reshaped it, or whose converter it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from efficientvit.errors import StageFailed, VitExportError
from runtimes.artifact import Artifact
from runtimes.precision import Dtype
from runtimes.reader import RANGE
from runtimes.registry import open_layers, read_constants, reader_of
from runtimes.runtime import Array, Images, Mode
from validation.blame.causes import cause_of_constant
from validation.blame.int8 import blame_execution, blame_ranges
from validation.blame.matching import matched
from validation.blame.model_tensors import right_tensors
from validation.blame.ranking import Blame, rank
from validation.gates import table
from validation.gates.constants import audit
from validation.gates.gate import Where
from validation.gates.result import GateResult
from validation.int8.ranges import quantized, with_calibration
from validation.network import network_of
from validation.reference.model import ReferenceModel

LAYER_FACTOR = {Mode.ORACLE: 16.0, Mode.SHIPPED: 4.0}
"""Budget of a layer over its own floor, which is of one evaluation: wider than a gate's."""

_IMAGES = 3
_MOST = 12.0
"""Images of 224 x 224 whose tensors are held at a time: of M5 some 200 MB each."""


def blame_artifact(
    artifact: Artifact,
    model: ReferenceModel,
    gates: Sequence[GateResult],
    *,
    feed: Callable[[Array], Array] | None = None,
    output: str | None = None,
    source: Artifact | None = None,
) -> Blame:
    """Look into `artifact`, which `gates` rejected, or into a healthy one for its layers' errors.

    `feed`: of a file that another tool made, normalized NCHW images -> what it takes; its constants can't be
    held to ours, and it may be of the trained form. `output`: its scores, by name. `source`: what it was made of,
    which says what calibration found if it is quantized.
    """
    try:
        with network_of(artifact) as network:
            return _blame(network, model, gates, feed, output, source)
    except VitExportError as error:
        return Blame((), note=f"the layers could not be looked at: {' '.join(str(error).split())}")


def _blame(
    artifact: Artifact,
    model: ReferenceModel,
    gates: Sequence[GateResult],
    feed: Callable[[Array], Array] | None,
    output: str | None,
    source: Artifact | None,
) -> Blame:
    asked = {table.named(result.gate).blame for result in gates if not result.passed}
    if asked == {Where.NOWHERE}:
        return Blame(
            (), note="no layer is at fault, but what the file takes, gives, says of itself or costs: the gate says what"
        )
    if asked == {Where.INTEGER_LAYERS}:  # with the constants or the structure wrong too, those say more
        return blame_execution(artifact, model)
    wrong = _wrong_constants(artifact, model, source) if feed is None else {}
    if Where.QUANTIZERS in asked and not wrong:  # a range that calibration did not find is a wrong constant first
        return blame_ranges(artifact, model)
    as_shipped = asked == {Where.LAYERS_AS_SHIPPED} and not artifact.precision.quantized
    mode = Mode.SHIPPED if as_shipped else Mode.ORACLE
    with open_layers(artifact, mode, output=output) as opened:
        calls = list(_calls(artifact, model, gates, feed))
        values = [opened.run(images) for images, _ in calls]
    rows = [part for _, part in calls]
    right = right_tensors(
        model, artifact.precision, rows, artifact.interface.image_input, mode, trained=feed is not None
    )
    if artifact.precision.quantized:
        right = replace(right, modules={**_of_calibration(artifact), **right.modules})
    found = matched(opened.layers, values, right, LAYER_FACTOR[mode])
    blame = rank(opened, found, wrong, right, Dtype.FP16 if mode is Mode.SHIPPED else Dtype.FP32)
    unproven = [gate.detail for gate in gates if gate.gate == "identity" and not gate.passed]
    # What no image shows has no layer that is off: the proof says where the program leaves the model's.
    return blame if blame.suspects or not unproven else replace(blame, note=unproven[0])


def _calls(
    artifact: Artifact,
    model: ReferenceModel,
    gates: Sequence[GateResult],
    feed: Callable[[Array], Array] | None,
) -> list[tuple[Images, list[int]]]:
    """What to run the artifact on, and which golden images that is: those on which the gates were at their worst."""
    golden, batch = model.golden, artifact.batch or _IMAGES
    names = [kind.worst_image for gate in gates if not gate.passed for kind in gate.kinds if not kind.passed]
    judged = [row for row in range(len(golden)) if model.judged[row]]
    if not judged:
        raise StageFailed("there is no golden image on which the model is well conditioned")
    if max(batch, _IMAGES) * golden.preprocessing.image_size.area / 224**2 > _MOST:
        raise StageFailed(f"a batch of {batch} at this image size is too large to keep every tensor of")
    worst = [golden.names.index(name) for name in dict.fromkeys(names) if name in golden.names]
    spread = [judged[i] for i in np.linspace(0, len(judged) - 1, min(_IMAGES, len(judged))).astype(int)]
    rows = list(dict.fromkeys([*worst[:_IMAGES], *spread]))[: max(_IMAGES, batch)]
    rows = list(np.resize(rows, -(-len(rows) // batch) * batch))
    parts = [[int(row) for row in rows[start : start + batch]] for start in range(0, len(rows), batch)]
    image_input = artifact.interface.image_input
    reference = model.at(artifact.precision, image_input=image_input)

    def images(part: list[int]) -> Images:
        if feed is not None:
            return feed(golden.images[part])
        members = [golden.members[row] for row in part]
        if image_input and all(member.has_pixels for member in members):
            return np.stack([member.data for member in members])
        return reference.inputs[part]

    return [(images(part), part) for part in parts]


def _of_calibration(artifact: Artifact) -> dict[str, str]:
    """The module whose tensor it is about, by the name of each constant that calibration found."""
    modules = reader_of(artifact).modules(artifact)
    return {f"{name}{end}": module for name, module in modules.items() for end in (RANGE, "_scale", "_zero_point")}


def _wrong_constants(artifact: Artifact, model: ReferenceModel, source: Artifact | None) -> dict[str, str]:
    """Constants of the file that are not the model's, by name: what is wrong with them."""
    reference = model.at(artifact.precision, image_input=artifact.interface.image_input)
    reference = with_calibration(reference, artifact, source)
    held = [(name, np.asarray(value)) for name, value in read_constants(artifact)]
    found = audit(held, reference.constants)
    expected = {name: np.asarray(value) for name, value in model.constants(artifact.precision, reference.image_input)}
    if artifact.precision.quantized and (quantizes := quantized(source)) is not None:
        calibrated = reader_of(artifact).calibration(artifact, quantizes)
        expected.update((name, np.asarray(value)) for name, value in calibrated)
    by_name = {name.replace(".", "_"): name for name in expected}
    values = dict(held)
    result: dict[str, str] = {}
    for name in found.wrong:
        own = by_name.get(name.replace(".", "_"))
        result[own or name] = cause_of_constant(values[name], expected.get(own or ""), expected)
    result.update(dict.fromkeys(found.missing, "is not in the file"))
    return result
