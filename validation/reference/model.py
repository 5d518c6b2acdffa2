"""The live model behind the references: the trained form in float64, and what each precision honestly costs.

`ReferenceModel` holds the modules and does the work; `Reference` is its result for one precision.
"""

import copy
import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.deploy.image_input import divided_by_std
from efficientvit.deploy.rewrites import rewritten
from efficientvit.digests import digests
from efficientvit.model import EfficientViT
from runtimes.precision import Dtype, Precision
from validation.budgets import Budgets
from validation.inputs.golden_set import GoldenSet, Kind
from validation.metrics import Float64, relative_error, scale_of
from validation.reference.constants import deploy_constants, image_constants, quantized_constants
from validation.reference.emulation import as_executed, evaluate, evaluations, with_rounded_weights
from validation.reference.floors import (
    WELL_CONDITIONED,
    Floors,
    default_quality_budget,
    errors,
    geometric_mean,
    narrowest,
    pooled,
)
from validation.reference.reference import Reference, network_inputs

_AMPLIFICATIONS = (10.0, 5.0, 3.0, 2.0)
# Amplified inputs lie at the edge of chaos: from one evaluation to the next their errors scatter tenfold.
_AMPLIFIED_EVALUATIONS = 16


class ReferenceModel:
    """A trained model with its golden inputs: evaluates the reference and measures the noise floors.

    The amplified inputs are scaled by the largest factor up to ten on which the model is well conditioned. Nothing is
    evaluated before it is asked for: the deploy form can be exported meanwhile.
    """

    def __init__(self, trained: EfficientViT, golden: GoldenSet, budgets: Budgets | None = None) -> None:
        self.trained = trained
        self.rewritten = rewritten(trained)
        self.deploy = copy.deepcopy(self.rewritten).float()
        self.given = golden
        self.budgets = budgets or Budgets()
        self._at: dict[tuple[Precision, bool], Reference] = {}
        self._stored: dict[tuple[Precision, bool], EfficientViT] = {}

    @functools.cached_property
    def exact(self) -> EfficientViT:
        """The trained form in float64."""
        return copy.deepcopy(self.trained).double()

    @functools.cached_property
    def golden(self) -> GoldenSet:
        """The given inputs, the amplified ones at the largest scale on which the model is well conditioned."""
        return self._amplified(self.given)

    @functools.cached_property
    def images(self) -> Tensor:
        """(n, 3, H, W) float32."""
        return torch.tensor(self.golden.images)

    @functools.cached_property
    def logits(self) -> Float64:
        """(n, classes): the right answers."""
        return _numpy(evaluate(self.exact, self.images.double()))

    @property
    def scale(self) -> Float64:
        """(n,): what errors are relative to."""
        return scale_of(self.logits, self.golden.ordinary_rows)

    @functools.cached_property
    def judged(self) -> NDArray[np.bool_]:
        """(n,): where the model is well conditioned, by the trained form: a deploy form's fault is no chaos."""
        return relative_error(self._trained_single[0], self.logits, self.scale) <= WELL_CONDITIONED

    @functools.cached_property
    def _trained_single(self) -> Float64:
        return evaluations(self.trained, self.images, Precision())

    @functools.cached_property
    def _single(self) -> Float64:
        return evaluations(self.deploy, self.images, Precision())

    @property
    def not_judged(self) -> tuple[str, ...]:
        """The images on which the model is chaotic."""
        return tuple(name for name, ok in zip(self.golden.names, self.judged, strict=True) if not ok)

    def _amplified(self, golden: GoldenSet) -> GoldenSet:
        if Kind.AMPLIFIED not in golden.kinds:
            return golden
        unit = torch.tensor(golden.of_kind(Kind.AMPLIFIED).images)
        for factor in _AMPLIFICATIONS:
            exact = _numpy(evaluate(self.exact, factor * unit.double()))
            single = _numpy(evaluate(self.trained, factor * unit))
            if relative_error(single, exact).max() <= WELL_CONDITIONED:
                return golden.amplified(factor)
        return golden.amplified(_AMPLIFICATIONS[-1])

    @functools.cached_property
    def float32_cost(self) -> tuple[float, float]:
        """Typical float32 error of the deploy form and of the trained form, over the ordinary judged images.

        The geometric mean: one image on which the one or the other was lucky must not decide between them.
        """
        ordinary = self.judged & (np.array(self.golden.kinds) != Kind.AMPLIFIED)
        runs = (self._single, self._trained_single)
        deploy, trained = (geometric_mean(errors(run, self.logits, self.scale)[:, ordinary]) for run in runs)
        return deploy, trained

    @functools.cached_property
    def image_deploy(self) -> EfficientViT:
        """The deploy form behind an 8-bit image, without its scale and bias: takes (pixel / 255 - mean)."""
        return divided_by_std(self.rewritten, self.given.preprocessing.std).float()

    def at(self, precision: Precision, *, image_input: bool = False) -> Reference:
        """The reference for artifacts of this precision and input; measured once."""
        key = (precision, image_input)
        if key not in self._at:
            self._at[key] = self._measured(precision, image_input=image_input)
        return self._at[key]

    def stored(self, precision: Precision, *, image_input: bool = False) -> EfficientViT:
        """The deploy form with the values that such an artifact has of its weights; made once."""
        key = (precision, image_input)
        if key not in self._stored:
            self._stored[key] = with_rounded_weights(self.image_deploy if image_input else self.deploy, precision)
        return self._stored[key]

    def constants(self, precision: Precision, image_input: bool) -> list[tuple[str, NDArray[Any]]]:
        """Every constant that such an artifact holds, by name."""
        if precision.quantized:
            held = quantized_constants(self.image_deploy if image_input else self.deploy, precision)
        else:
            held = deploy_constants(self.stored(precision, image_input=image_input), precision.decoded)
        return [*held, *(image_constants(self.given.preprocessing) if image_input else ())]

    def _measured(self, precision: Precision, *, image_input: bool) -> Reference:
        images = torch.tensor(network_inputs(self.golden, image_input=True)) if image_input else self.images
        stored = self.stored(precision, image_input=image_input)
        known = precision.weights is Dtype.FP32 and not image_input
        single = self._single if known else evaluations(stored, images, Precision())
        # Quantized activations have no noise floor, because integers tip over: the quality gate judges their cost.
        rounded_too = precision.rounding is not Dtype.FP32 and not precision.quantized
        run = evaluations(as_executed(stored, precision), images, precision) if rounded_too else single
        structure = _numpy(evaluate(copy.deepcopy(stored).double(), images.double()))
        compressed = precision.weights.compressed
        return Reference(
            golden=self.golden,
            precision=precision,
            logits=self.logits,
            structure=structure,
            judged=self.judged,
            floors=pooled(
                run, structure if compressed else self.logits, self.judged, self.golden, narrowest(precision)
            ),
            structure_floors=self._structure_floors(stored, images, single, structure),
            constants=digests(self.constants(precision, image_input)),
            image_input=image_input,
            quality_budget=self._quality() if compressed else None,
        )

    def _quality(self) -> float:
        """The budget that was asked for, or a third of what the best answer costs that ignores the image."""
        if self.budgets.quality is not None:
            return self.budgets.quality
        return default_quality_budget(self.logits, self.judged, self.golden)

    def _structure_floors(self, stored: nn.Module, images: Tensor, single: Float64, structure: Float64) -> Floors:
        floors = pooled(single, structure, self.judged, self.golden, Dtype.FP32)
        if Kind.AMPLIFIED not in floors:
            return floors
        rows = np.flatnonzero(self.judged & (np.array(self.golden.kinds) == Kind.AMPLIFIED))
        more = evaluations(stored, images[rows], Precision(), _AMPLIFIED_EVALUATIONS)
        largest = float(errors(more, structure[rows], scale_of(structure, self.golden.ordinary_rows)[rows]).max())
        return {**floors, Kind.AMPLIFIED: max(floors[Kind.AMPLIFIED], largest)}


def _numpy(tensor: Tensor) -> Float64:
    result: Float64 = tensor.double().numpy()
    return result
