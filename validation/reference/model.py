"""The live model behind the references: the trained form in float64, and what each precision honestly costs.

`ReferenceModel` holds the modules and does the work; `Reference` is its result for one precision.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.copies import copied
from efficientvit.deploy.equalization import equalized
from efficientvit.deploy.image_input import divided_by_std
from efficientvit.deploy.rewrites import rewritten
from efficientvit.digests import digests
from efficientvit.head import Output
from efficientvit.model import EfficientViT
from runtimes.interface import OUTPUT
from runtimes.precision import Dtype, Precision
from validation.budgets import Budgets
from validation.inputs.golden_set import GoldenSet, Kind
from validation.metrics import Float64, relative_error, scale_of
from validation.reference.by_output import ByOutput, by_output
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
from validation.reference.reference import Expected, Reference, network_inputs

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
        self.deploy = copied(self.rewritten).float()
        self.given = golden
        self.budgets = budgets or Budgets()
        self._at: dict[tuple[Precision, bool], Reference] = {}
        self._stored: dict[tuple[Precision, bool], EfficientViT] = {}

    @functools.cached_property
    def exact(self) -> EfficientViT:
        """The trained form in float64."""
        return copied(self.trained).double()

    @functools.cached_property
    def golden(self) -> GoldenSet:
        """The given inputs, the amplified ones at the largest scale on which the model is well conditioned."""
        return self._amplified(self.given)

    @functools.cached_property
    def images(self) -> Tensor:
        """(n, 3, H, W) float32."""
        return torch.tensor(self.golden.images)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What the model gives, in order."""
        return self.trained.spec.outputs

    def split(self, values: Float64) -> ByOutput:
        """What PyTorch gave of the images, by output."""
        return by_output(self.outputs, values)

    @functools.cached_property
    def right(self) -> ByOutput:
        """(n, values): the right answers."""
        return self.split(_numpy(evaluate(self.exact, self.images.double())))

    @property
    def logits(self) -> Float64:
        """(n, classes): a classifier's right answers."""
        return self.right[OUTPUT]

    @property
    def called(self) -> str:
        """What it gives, in words."""
        return "logits" if self.trained.spec.head.gives_logits else "outputs"

    @functools.cached_property
    def scales(self) -> ByOutput:
        """(n,): what errors are relative to."""
        return {name: scale_of(right, self.golden.ordinary_rows) for name, right in self.right.items()}

    def worst_errors(self, values: ByOutput) -> Float64:
        """(n,): the relative error of the output that is furthest off."""
        found = [relative_error(values[name], right, self.scales[name]) for name, right in self.right.items()]
        worst: Float64 = np.max(found, axis=0)
        return worst

    @functools.cached_property
    def judged(self) -> NDArray[np.bool_]:
        """(n,): where the model is well conditioned, by the trained form: a deploy form's fault is no chaos."""
        return self.worst_errors({name: runs[0] for name, runs in self._trained_single.items()}) <= WELL_CONDITIONED

    @functools.cached_property
    def _trained_single(self) -> ByOutput:
        return self.split(evaluations(self.trained, self.images, Precision()))

    @functools.cached_property
    def _single(self) -> ByOutput:
        return self.split(evaluations(self.deploy, self.images, Precision()))

    @property
    def not_judged(self) -> tuple[str, ...]:
        """The images on which the model is chaotic."""
        return tuple(name for name, ok in zip(self.golden.names, self.judged, strict=True) if not ok)

    def _amplified(self, golden: GoldenSet) -> GoldenSet:
        if Kind.AMPLIFIED not in golden.kinds:
            return golden
        unit = torch.tensor(golden.of_kind(Kind.AMPLIFIED).images)
        for factor in _AMPLIFICATIONS:
            exact = self.split(_numpy(evaluate(self.exact, factor * unit.double())))
            single = self.split(_numpy(evaluate(self.trained, factor * unit)))
            if all(relative_error(single[name], exact[name]).max() <= WELL_CONDITIONED for name in exact):
                return golden.amplified(factor)
        return golden.amplified(_AMPLIFICATIONS[-1])

    @functools.cached_property
    def float32_costs(self) -> Mapping[str, tuple[float, float]]:
        """Typical float32 error of the deploy form and of the trained form, over the ordinary judged images, by output.

        The geometric mean: one image on which the one or the other was lucky must not decide between them.
        """
        ordinary = self.judged & (np.array(self.golden.kinds) != Kind.AMPLIFIED)
        costs = {}
        for name, right in self.right.items():
            runs = (self._single[name], self._trained_single[name])
            deploy, trained = (geometric_mean(errors(run, right, self.scales[name])[:, ordinary]) for run in runs)
            costs[name] = deploy, trained
        return costs

    @property
    def float32_cost(self) -> tuple[float, float]:
        """Of the output whose error the rewrites have made grow the most."""
        return max(self.float32_costs.values(), key=lambda cost: cost[0] / cost[1])

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
            self._stored[key] = with_rounded_weights(self.form(precision, image_input=image_input), precision)
        return self._stored[key]

    def form(self, precision: Precision, *, image_input: bool = False) -> EfficientViT:
        """The deploy form that such an artifact is made of, in float32: with the precision's equalization, if any."""
        if not precision.equalization:
            return self.image_deploy if image_input else self.deploy
        exact = divided_by_std(self.rewritten, self.given.preprocessing.std) if image_input else self.rewritten
        return equalized(exact, precision.equalization).float()

    def constants(self, precision: Precision, image_input: bool) -> list[tuple[str, NDArray[Any]]]:
        """Every constant that such an artifact holds, by name."""
        if precision.quantized:
            held = quantized_constants(self.form(precision, image_input=image_input), precision)
        else:
            held = deploy_constants(self.stored(precision, image_input=image_input), precision.decoded)
        return [*held, *(image_constants(self.given.preprocessing) if image_input else ())]

    def _measured(self, precision: Precision, *, image_input: bool) -> Reference:
        images = torch.tensor(network_inputs(self.golden, image_input=True)) if image_input else self.images
        stored = self.stored(precision, image_input=image_input)
        known = precision.weights is Dtype.FP32 and not image_input and not precision.equalization
        single = self._single if known else self.split(evaluations(stored, images, Precision()))
        # Quantized activations have no noise floor, because integers tip over: the quality gate judges their cost.
        rounded_too = precision.rounding is not Dtype.FP32 and not precision.quantized
        run = single
        if rounded_too:
            run = self.split(evaluations(as_executed(stored, precision), images, precision))
        structure = self.split(_numpy(evaluate(copied(stored).double(), images.double())))
        structure_floors = self._structure_floors(stored, images, single, structure)
        compressed = precision.weights.compressed
        outputs = {
            name: Expected(
                precision=precision,
                right=right,
                structure=structure[name],
                floors=pooled(
                    run[name], structure[name] if compressed else right, self.judged, self.golden, narrowest(precision)
                ),
                structure_floors=structure_floors[name],
                quality_budget=self._quality(right) if compressed else None,
            )
            for name, right in self.right.items()
        }
        return Reference(
            golden=self.golden,
            precision=precision,
            outputs=outputs,
            judged=self.judged,
            constants=digests(self.constants(precision, image_input)),
            image_input=image_input,
        )

    def _quality(self, right: Float64) -> float:
        """The budget that was asked for, or a third of what the best answer costs that ignores the image."""
        if self.budgets.quality is not None:
            return self.budgets.quality
        return default_quality_budget(right, self.judged, self.golden)

    def _structure_floors(
        self, stored: nn.Module, images: Tensor, single: ByOutput, structure: ByOutput
    ) -> Mapping[str, Floors]:
        floors = {
            name: pooled(single[name], exact, self.judged, self.golden, Dtype.FP32) for name, exact in structure.items()
        }
        rows = np.flatnonzero(self.judged & (np.array(self.golden.kinds) == Kind.AMPLIFIED))
        if not len(rows):
            return floors
        more = self.split(evaluations(stored, images[rows], Precision(), _AMPLIFIED_EVALUATIONS))
        for name, exact in structure.items():
            scale = scale_of(exact, self.golden.ordinary_rows)[rows]
            largest = float(errors(more[name], exact[rows], scale).max())
            floors[name] = {**floors[name], Kind.AMPLIFIED: max(floors[name][Kind.AMPLIFIED], largest)}
        return floors


def _numpy(tensor: Tensor) -> Float64:
    result: Float64 = tensor.double().numpy()
    return result
