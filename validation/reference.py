"""What artifacts are compared with: the trained form in float64, and what an honest runtime may deviate from it.

`ReferenceModel` holds the live modules and does the work; `Reference` is its result for one precision, plain
arrays that can be saved with the artifact so that a folder can be judged again without the weights.
"""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.deploy import to_deploy
from efficientvit.model import EfficientViT
from runtimes.artifact import Dtype, Precision
from validation.arithmetic import evaluate, with_rounded_weights
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
        # By the trained form: a fault in the deploy form must not pass for chaos.
        self._trained_single = self._evaluations(self.trained, Precision())
        self._single = self._evaluations(self.deploy, Precision())
        self.judged: NDArray[np.bool_] = relative_error(self._trained_single[0], self.logits) <= WELL_CONDITIONED
        self._at: dict[Precision, Reference] = {}

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
        deploy, trained = (_geometric_mean(_errors(run, self.logits)[:, ordinary]) for run in runs)
        return deploy, trained

    def at(self, precision: Precision) -> Reference:
        """The reference for artifacts of this precision; measured once."""
        if precision not in self._at:
            self._at[precision] = self._measured(precision)
        return self._at[precision]

    def _measured(self, precision: Precision) -> Reference:
        stored = with_rounded_weights(self.deploy, precision.weights)
        in_single = precision.weights is Dtype.FP32
        single = self._single if in_single else self._evaluations(stored, Precision())
        rounded_too = precision.activations is not Dtype.FP32
        run = self._evaluations(stored, precision) if rounded_too else single
        structure = _numpy(evaluate(copy.deepcopy(stored).double(), self.images.double()))
        return Reference(
            golden=self.golden,
            precision=precision,
            logits=self.logits,
            structure=structure,
            judged=self.judged,
            floors=self._pooled(run, self.logits, _narrowest(precision)),
            structure_floors=self._pooled(single, structure, Dtype.FP32),
            constants=digests(deploy_constants(stored, precision.weights)),
        )

    def _evaluations(self, model: nn.Module, precision: Precision) -> Float64:
        """(evaluations, n, classes): on the images, and on copies of them that differ by roundings."""
        images = _perturbed(self.images, _narrowest(precision))
        return np.stack([_numpy(evaluate(model, copies, precision.activations)) for copies in images])

    def _pooled(self, runs: Float64, exact: Float64, dtype: Dtype) -> Floors:
        """The worst error of a kind over its judged images and the evaluations."""
        errors = _errors(runs, exact).max(axis=0)
        kinds = np.array(self.golden.kinds)
        return {
            kind: max(float(errors[(kinds == kind) & self.judged].max()), _SMALLEST_FLOOR[dtype])
            for kind in self.golden.unique_kinds
            if (self.judged & (kinds == kind)).any()
        }


def _narrowest(precision: Precision) -> Dtype:
    return max(precision.weights, precision.activations, key=_UNIT_ROUNDOFF.__getitem__)


def _errors(runs: Float64, exact: Float64) -> Float64:
    """(evaluations, n, classes) -> (evaluations, n)."""
    return np.stack([relative_error(run, exact) for run in runs])


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
    """The images, and copies of them with every value moved by about one unit in the format's last place."""
    generator = torch.Generator().manual_seed(0)
    copies = [images]
    for _ in range(_EVALUATIONS - 1):
        sign = torch.randint(0, 2, images.shape, generator=generator, dtype=torch.int8) * 2 - 1
        # In float64: in float32 itself 1 + 2^-24 is 1.
        copies.append((images.double() * (1 + sign * _UNIT_ROUNDOFF[dtype])).float())
    return copies


def _numpy(tensor: Tensor) -> Float64:
    result: Float64 = tensor.double().numpy()
    return result
