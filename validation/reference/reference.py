"""What an artifact is compared with: plain arrays, saved with it, so that it can be judged without the weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runtimes.interface import OUTPUT
from runtimes.precision import Precision
from validation.budgets import PRECISION_FACTOR, STRUCTURE_FACTOR
from validation.inputs.golden_set import GoldenSet, Kind
from validation.metrics import Float64
from validation.reference.floors import Floors, ordinary


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """One output of a model at one precision: right answers, noise floors, budgets.

    `right` (n, values): the trained form in float64. `structure` (n, values): the deploy form with weights rounded as
    the artifact stores them, also in float64. `floors` and `structure_floors`: the pooled relative error of PyTorch
    under the precision's rules, and in float32 arithmetic, per kind. `quality_budget`: the root mean square of the
    relative error that compressed weights may cost; None where they aren't compressed.
    """

    precision: Precision
    right: Float64
    structure: Float64
    floors: Floors
    structure_floors: Floors
    quality_budget: float | None = None

    @property
    def executed(self) -> Float64:
        """What the precision gate compares with: of compressed weights, whose cost is quality's, their own answers."""
        return self.structure if self.precision.weights.compressed else self.right

    def structure_budget(self, kind: Kind) -> float:
        """Relative error that float32 arithmetic on the same weights may have."""
        return STRUCTURE_FACTOR * self.structure_floors[kind]

    def precision_budget(self, kind: Kind) -> float:
        """Relative error that the precision that ships may have against the float64 reference."""
        precision = self.precision
        dtypes = (precision.decoded, precision.decoded if precision.quantized else precision.rounding)
        return min(PRECISION_FACTOR[dtype] for dtype in dtypes) * self.floors[kind]

    def allowed(self, kind: Kind) -> float:
        """Relative error that an image of this kind may have by the quality or precision gate."""
        return self.precision_budget(kind) if self.quality_budget is None else self.quality_budget

    @property
    def error_allowed(self) -> float:
        """`allowed` of the most lenient ordinary kind."""
        if self.quality_budget is not None:
            return self.quality_budget
        return max(map(self.precision_budget, ordinary(self.floors)), default=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One model at one precision: inputs, what each output has to be, and the constants' digests.

    `outputs`: by name, in order. `judged` (n,): where the model is well conditioned, every output of it. `image_input`:
    the deploy form is the one behind an 8-bit image.
    """

    golden: GoldenSet
    precision: Precision
    outputs: Mapping[str, Expected]
    judged: NDArray[np.bool_]
    constants: Mapping[str, str]
    image_input: bool = False

    @property
    def classifier(self) -> Expected:
        """The logits, for what is about classes."""
        return self.outputs[OUTPUT]

    @property
    def gives_logits(self) -> bool:
        """It is a classifier's."""
        return OUTPUT in self.outputs

    @property
    def logits(self) -> Float64:
        """(n, classes): a classifier's right answers."""
        return self.classifier.right

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of ordinary images with an image on which it can be judged."""
        return tuple(ordinary(next(iter(self.outputs.values())).floors))

    @property
    def inputs(self) -> NDArray[np.float32]:
        """(n, 3, H, W): what the network itself is fed."""
        return network_inputs(self.golden, image_input=self.image_input)

    def with_constants(self, more: Mapping[str, str]) -> "Reference":
        """The same, and constants that only a stage could know (what calibration found), by name and digest."""
        return replace(self, constants={**self.constants, **more})

    def with_quality_budget(self, budget: float) -> "Reference":
        """The same, held to another quality budget, a relative error; only of compressed weights."""
        outputs = {name: replace(each, quality_budget=budget) for name, each in self.outputs.items()}
        return replace(self, outputs=outputs)

    def only(self, rows: NDArray[np.bool_]) -> "Reference":
        """The same, judged on no other images than these."""
        return replace(self, judged=self.judged & rows)

    def rows(self, kind: Kind) -> NDArray[np.intp]:
        """The judged images of a kind."""
        return np.flatnonzero([k == kind and ok for k, ok in zip(self.golden.kinds, self.judged, strict=True)])


def network_inputs(golden: GoldenSet, *, image_input: bool) -> NDArray[np.float32]:
    """(n, 3, H, W): the normalized images, or, behind an image input, before their division by std."""
    if not image_input:
        return golden.images
    std = np.array(golden.preprocessing.std).reshape(1, 3, 1, 1)
    inputs: NDArray[np.float32] = (golden.images.astype(np.float64) * std).astype(np.float32)
    return inputs
