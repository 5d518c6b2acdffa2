"""What artifacts are compared with: the trained form in float64, and what an honest runtime may deviate from it.

`ReferenceModel` holds the live modules and does the work; `Reference` is its result for one precision, plain
arrays that can be saved with the artifact so that a folder can be judged again without the weights.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.deploy import to_deploy
from efficientvit.model import EfficientViT
from runtimes.artifact import Dtype, Precision
from validation.arithmetic import evaluate, run_as, with_rounded_weights
from validation.constants import digests
from validation.golden import GoldenSet, Kind
from validation.metrics import Float64, relative_error

WELL_CONDITIONED = 1e-4
"""The largest float32 floor at which an input still tells a fault from chaos."""

_AMPLIFICATIONS = (10.0, 5.0, 3.0, 2.0)
_EVALUATIONS = 3
_UNIT_ROUNDOFF = {Dtype.FP32: 2.0**-24, Dtype.FP16: 2.0**-11, Dtype.BF16: 2.0**-8}
# One evaluation can be lucky: no floor is taken below a few roundings of the logits themselves.
_SMALLEST_FLOOR = {Dtype.FP32: 2e-7, Dtype.FP16: 5e-4, Dtype.BF16: 4e-3}

Floors = Mapping[Kind, float]
_Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One model at one precision: inputs, right answers, noise floors, and the constants' digests.

    `logits` (n, classes): the trained form in float64. `structure` (n, classes): the deploy form with weights
    rounded as the artifact stores them, in float64. `judged` (n,): where the model is well conditioned.
    `floors` and `structure_floors`: the pooled relative error of PyTorch under the precision's rules, and in
    float32 arithmetic, per kind.
    """

    golden: GoldenSet
    precision: Precision
    logits: Float64
    structure: Float64
    judged: NDArray[np.bool_]
    floors: Floors
    structure_floors: Floors
    constants: Mapping[str, str]

    def rows(self, kind: Kind) -> NDArray[np.intp]:
        """The judged images of a kind."""
        return np.flatnonzero([k == kind and ok for k, ok in zip(self.golden.kinds, self.judged, strict=True)])

    @property
    def not_judged(self) -> tuple[str, ...]:
        """The images on which the model is chaotic."""
        return tuple(name for name, ok in zip(self.golden.names, self.judged, strict=True) if not ok)


class ReferenceModel:
    """A trained model with its golden inputs: evaluates the reference and measures the noise floors.

    The amplified inputs are scaled by the largest factor up to ten on which the model is well conditioned.
    """

    def __init__(self, trained: EfficientViT, golden: GoldenSet) -> None:
        self.trained = trained
        self.deploy = to_deploy(trained)
        self.exact = copy.deepcopy(trained).double()
        self.golden = self._amplified(golden)
        self.images = torch.tensor(self.golden.images)
        self.logits = _numpy(evaluate(self.exact, self.images.double()))
        floor = relative_error(_numpy(evaluate(self.deploy, self.images)), self.logits)
        self.judged: NDArray[np.bool_] = floor <= WELL_CONDITIONED

    @property
    def spec_name(self) -> str:
        """`m0` … `m5`."""
        return self.trained.spec.name

    def _amplified(self, golden: GoldenSet) -> GoldenSet:
        if Kind.AMPLIFIED not in golden.kinds:
            return golden
        unit = torch.tensor(golden.of_kind(Kind.AMPLIFIED).images)
        for factor in _AMPLIFICATIONS:
            exact = _numpy(evaluate(self.exact, factor * unit.double()))
            single = _numpy(evaluate(self.deploy, factor * unit))
            if relative_error(single, exact).max() <= WELL_CONDITIONED:
                return golden.amplified(factor)
        return golden.amplified(_AMPLIFICATIONS[-1])

    @functools.cached_property
    def float32_cost(self) -> tuple[float, float]:
        """Typical float32 error of the deploy form and of the trained form, over the ordinary judged images.

        The geometric mean: one image on which the one or the other was lucky must not decide between them.
        """
        ordinary = self.judged & (np.array(self.golden.kinds) != Kind.AMPLIFIED)
        deploy, trained = (
            self._errors(self.logits, self._runner(model), Dtype.FP32) for model in (self.deploy, self.trained)
        )
        return _geometric_mean(deploy[:, ordinary]), _geometric_mean(trained[:, ordinary])

    @functools.cache  # noqa: B019 - lives as long as the reference does
    def at(self, precision: Precision) -> Reference:
        """The reference for artifacts of this precision."""
        stored = with_rounded_weights(self.deploy, precision.weights)
        structure = _numpy(evaluate(copy.deepcopy(stored).double(), self.images.double()))
        narrowest = max(precision.weights, precision.activations, key=_UNIT_ROUNDOFF.__getitem__)
        return Reference(
            golden=self.golden,
            precision=precision,
            logits=self.logits,
            structure=structure,
            judged=self.judged,
            floors=self._pooled(self.logits, lambda images: run_as(self.deploy, images, precision), narrowest),
            structure_floors=self._pooled(structure, self._runner(stored), Dtype.FP32),
            constants=digests(deploy_constants(stored, precision.weights)),
        )

    @staticmethod
    def _runner(model: nn.Module) -> _Run:
        return lambda images: evaluate(model, images)

    def _errors(self, exact: Float64, run: _Run, dtype: Dtype) -> Float64:
        """(evaluations, n): the relative errors on the images and on perturbed copies of them."""
        runs = (run(images) for images in _perturbed(self.images, dtype))
        return np.stack([relative_error(_numpy(logits), exact) for logits in runs])

    def _pooled(self, exact: Float64, run: _Run, dtype: Dtype) -> Floors:
        """The worst error of a kind over its judged images and several evaluations."""
        errors = self._errors(exact, run, dtype).max(axis=0)
        kinds = np.array(self.golden.kinds)
        return {
            kind: max(float(errors[(kinds == kind) & self.judged].max()), _SMALLEST_FLOOR[dtype])
            for kind in self.golden.unique_kinds
            if (self.judged & (kinds == kind)).any()
        }


def _geometric_mean(errors: Float64) -> float:
    """Of errors that may be zero: not below the smallest floor. NaN where there is none."""
    return (
        float(np.exp(np.log(np.maximum(errors, _SMALLEST_FLOOR[Dtype.FP32])).mean())) if errors.size else float("nan")
    )


def deploy_constants(deploy: nn.Module, dtype: Dtype) -> list[tuple[str, NDArray[np.floating]]]:
    """Every tensor of the deploy form, by name, as an artifact with weights of `dtype` stores it."""
    numpy_dtype = np.float16 if dtype is Dtype.FP16 else np.float32
    return [(name, tensor.detach().numpy().astype(numpy_dtype)) for name, tensor in deploy.state_dict().items()]


def _perturbed(images: Tensor, dtype: Dtype) -> list[Tensor]:
    """The images, and copies of them with every value moved by the format's unit roundoff, up or down."""
    generator = torch.Generator().manual_seed(0)
    signs = (
        torch.randint(0, 2, images.shape, generator=generator, dtype=torch.int8) * 2 - 1
        for _ in range(_EVALUATIONS - 1)
    )
    return [images, *(images * (1 + sign * _UNIT_ROUNDOFF[dtype]) for sign in signs)]


def _numpy(tensor: Tensor) -> Float64:
    result: Float64 = tensor.double().numpy()
    return result
