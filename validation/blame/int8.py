"""Which layer of a quantized artifact executes wrongly when fed the right inputs, or was calibrated wrongly."""

import numpy as np

from runtimes.artifact import Artifact
from runtimes.registry import reader_of
from validation.blame.ranking import SHOWN, Blame, LayerError, Suspect
from validation.gates.execution import LARGEST_OFF, LARGEST_ROUNDING
from validation.gates.ranges import RANGE_FACTOR, range_ratio
from validation.int8.layerwise import compare_layers
from validation.int8.ranges import calibrated_ranges
from validation.reference.model import ReferenceModel

_IMAGES = 4


def blame_execution(artifact: Artifact, model: ReferenceModel) -> Blame:
    """The first layers, in the network's order, that leave the oracle's integers although they were fed its inputs."""
    batch = artifact.batch or 1
    judged = [row for row in model.golden.ordinary_rows if model.judged[row]]
    rows = np.resize(judged, -(-_IMAGES // batch) * batch)
    layers, modules = [], reader_of(artifact).modules(artifact)
    for deviation in compare_layers(artifact, model.golden.images[rows]).layers:
        error, limit = (deviation.off, LARGEST_OFF) if deviation.integer else (deviation.worst, LARGEST_ROUNDING)
        kind, module = "quantized" if deviation.integer else "layer", modules.get(deviation.tensor, "")
        nowhere = float("nan")
        layers.append(LayerError(deviation.tensor, kind, module, error, limit, error <= limit, nowhere, nowhere))
    wrong = [layer for layer in layers if not layer.passed][:SHOWN]
    return Blame(
        tuple(Suspect(layer.module, None, layer, "fed the oracle's inputs it gives something else") for layer in wrong),
        tuple(layers),
        None if wrong else "every layer that was fed the oracle's inputs is within its limit",
    )


def blame_ranges(artifact: Artifact, model: ReferenceModel) -> Blame:
    """Activations whose quantizers saturate, or waste their integers, the worst first."""
    modules = reader_of(artifact).modules(artifact)
    reached = calibrated_ranges(artifact, model.golden.images[model.golden.ordinary_rows])
    ratios = {tensor: range_ratio(pair) for tensor, pair in reached.items()}
    suspects = []
    for tensor in sorted(ratios, key=lambda name: -ratios[name])[:SHOWN]:
        calibrated, largest = reached[tensor]
        if ratios[tensor] <= RANGE_FACTOR:
            break
        does = "saturates" if largest > calibrated else "wastes its integers"
        error = LayerError(
            tensor, "quantizer", modules.get(tensor, ""), ratios[tensor], RANGE_FACTOR, False, -largest, largest
        )
        suspects.append(
            Suspect(error.module, None, error, f"{does}: calibrated to {calibrated:.4g}, reaches {largest:.4g}")
        )
    return Blame(tuple(suspects))
