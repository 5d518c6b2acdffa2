"""What artifacts are compared with: the trained form in float64, and what an honest runtime may deviate from it.

`ReferenceModel` holds the live modules and does the work; `Reference` is its result for one precision, plain
arrays that can be saved with the artifact so that a folder can be judged again without the weights.
"""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from efficientvit.deploy.compression import addends, affine, quantizable, quantized
from efficientvit.deploy.image_input import divided_by_std
from efficientvit.deploy.rewrites import rewritten
from efficientvit.images.preprocessing import Preprocessing
from efficientvit.model import EfficientViT
from runtimes.precision import Dtype, Precision
from validation.gates.constants import digests
from validation.inputs.golden_set import GoldenSet, Kind
from validation.metrics import Float64, ignoring_error, relative_error, root_mean_square
from validation.reference.emulation import answers, as_executed, evaluate, largest_integer, with_rounded_weights
from validation.reference.memo import remembered

WELL_CONDITIONED = 1e-4
"""The largest float32 floor at which an input still tells a fault from chaos."""

QUALITY_SHARE = 1 / 3
"""Compressed weights may cost this much of what an answer costs that ignores the image, unless told otherwise."""

_AMPLIFICATIONS = (10.0, 5.0, 3.0, 2.0)
_EVALUATIONS = 3
# Amplified inputs lie at the edge of chaos: from one evaluation to the next their errors scatter tenfold.
_AMPLIFIED_EVALUATIONS = 16
_UNIT_ROUNDOFF = {Dtype.FP32: 2.0**-24, Dtype.FP16: 2.0**-11, Dtype.BF16: 2.0**-8}
# One evaluation can be lucky: no floor is taken below a few roundings of the logits themselves.
SMALLEST_FLOOR = {Dtype.FP32: 2e-7, Dtype.FP16: 5e-4, Dtype.BF16: 4e-3}

Floors = Mapping[Kind, float]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """One model at one precision: inputs, right answers, noise floors, and the constants' digests.

    `logits` (n, classes): the trained form in float64. `structure` (n, classes): the deploy form with weights
    rounded as the artifact stores them, in float64. `judged` (n,): where the model is well conditioned.
    `floors` and `structure_floors`: the pooled relative error of PyTorch under the precision's rules, and in
    float32 arithmetic, per kind. `image_input`: the deploy form is the one behind an 8-bit image. `quality_budget`:
    the root mean square of the relative error that compressed weights may cost; None where they aren't compressed.
    """

    golden: GoldenSet
    precision: Precision
    logits: Float64
    structure: Float64
    judged: NDArray[np.bool_]
    floors: Floors
    structure_floors: Floors
    constants: Mapping[str, str]
    image_input: bool = False
    quality_budget: float | None = None

    @property
    def inputs(self) -> NDArray[np.float32]:
        """(n, 3, S, S): what the network itself is fed."""
        return network_inputs(self.golden, image_input=self.image_input)

    @property
    def executed(self) -> Float64:
        """What the precision gate compares with: of compressed weights, whose cost is quality's, their own answers."""
        return self.structure if self.precision.weights.compressed else self.logits

    def with_constants(self, more: Mapping[str, str]) -> "Reference":
        """The same, and constants that only a stage could know (what calibration found), by name and digest."""
        return replace(self, constants={**self.constants, **more})

    def only(self, rows: NDArray[np.bool_]) -> "Reference":
        """The same, judged on no other images than these."""
        return replace(self, judged=self.judged & rows)

    def rows(self, kind: Kind) -> NDArray[np.intp]:
        """The judged images of a kind."""
        return np.flatnonzero([k == kind and ok for k, ok in zip(self.golden.kinds, self.judged, strict=True)])


class ReferenceModel:
    """A trained model with its golden inputs: evaluates the reference and measures the noise floors.

    The amplified inputs are scaled by the largest factor up to ten on which the model is well conditioned. Nothing is
    evaluated before it is asked for: the deploy form can be exported meanwhile.
    """

    def __init__(self, trained: EfficientViT, golden: GoldenSet, quality_budget: float | None = None) -> None:
        self.trained = trained
        self.rewritten = rewritten(trained)
        self.deploy = copy.deepcopy(self.rewritten).float()
        self.given = golden
        self._quality_budget = quality_budget
        self._at: dict[tuple[Precision, bool], Reference] = {}
        self._stored: dict[tuple[Precision, bool], EfficientViT] = {}

    @functools.cached_property
    def exact(self) -> EfficientViT:
        """The trained form in float64."""
        return copy.deepcopy(self.trained).double()

    @functools.cached_property
    def golden(self) -> GoldenSet:
        """The inputs that were given, the amplified ones at the scale that the model bears."""
        return self._amplified(self.given)

    @functools.cached_property
    def images(self) -> Tensor:
        """(n, 3, S, S) float32."""
        return torch.tensor(self.golden.images)

    @functools.cached_property
    def logits(self) -> Float64:
        """(n, classes): the right answers."""
        return _numpy(evaluate(self.exact, self.images.double()))

    @functools.cached_property
    def judged(self) -> NDArray[np.bool_]:
        """(n,): where the model is well conditioned, by the trained form: a deploy form's fault is no chaos."""
        return relative_error(self._trained_single[0], self.logits) <= WELL_CONDITIONED

    @functools.cached_property
    def _trained_single(self) -> Float64:
        return evaluations(self.trained, self.images, Precision())

    @functools.cached_property
    def _single(self) -> Float64:
        return evaluations(self.deploy, self.images, Precision())

    @property
    def spec_name(self) -> str:
        """`m0` … `m5`."""
        return self.trained.spec.name

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
        deploy, trained = (_geometric_mean(errors(run, self.logits)[:, ordinary]) for run in runs)
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
        # What quantized activations cost is the quality gate's business: integers tip over, there is no such floor.
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
        if self._quality_budget is not None:
            return self._quality_budget
        return default_quality_budget(self.logits, self.judged, self.golden)

    def _structure_floors(self, stored: nn.Module, images: Tensor, single: Float64, structure: Float64) -> Floors:
        floors = pooled(single, structure, self.judged, self.golden, Dtype.FP32)
        if Kind.AMPLIFIED not in floors:
            return floors
        rows = np.flatnonzero(self.judged & (np.array(self.golden.kinds) == Kind.AMPLIFIED))
        more = evaluations(stored, images[rows], Precision(), _AMPLIFIED_EVALUATIONS)
        largest = float(errors(more, structure[rows]).max())
        return {**floors, Kind.AMPLIFIED: max(floors[Kind.AMPLIFIED], largest)}


def network_inputs(golden: GoldenSet, *, image_input: bool) -> NDArray[np.float32]:
    """(n, 3, S, S): the normalized images, or, behind an image input, before their division by std."""
    if not image_input:
        return golden.images
    std = np.array(golden.preprocessing.std).reshape(1, 3, 1, 1)
    inputs: NDArray[np.float32] = (golden.images.astype(np.float64) * std).astype(np.float32)
    return inputs


def evaluations(model: nn.Module, images: Tensor, precision: Precision, count: int = _EVALUATIONS) -> Float64:
    """(count, n, classes): on the images, and on copies of them that differ by roundings."""
    rounding, unit = precision.rounding, narrowest(precision)

    def compute() -> Float64:
        return np.stack([answers(model, each, rounding) for each in _perturbed(images, unit, count)])

    return remembered(f"{count} evaluations in {rounding}, apart by {unit}", model, (images,), compute)


def narrowest(precision: Precision) -> Dtype:
    """The coarser of weights and arithmetic; int8, which has a budget of its own, counts as what it decodes to."""
    if precision.quantized:
        return precision.decoded
    return max(precision.decoded, precision.rounding, key=_UNIT_ROUNDOFF.__getitem__)


def errors(runs: Float64, exact: Float64) -> Float64:
    """(evaluations, n, classes) -> (evaluations, n)."""
    return np.stack([relative_error(run, exact) for run in runs])


def default_quality_budget(exact: Float64, judged: NDArray[np.bool_], golden: GoldenSet) -> float:
    """A share of what the best answer costs that ignores the image, over the judged ordinary images."""
    rows = np.flatnonzero(judged & (np.array(golden.kinds) != Kind.AMPLIFIED))
    if len(rows) == 0:
        return float("inf")  # nothing is judged then, and every other gate fails
    return QUALITY_SHARE * root_mean_square(ignoring_error(exact[rows]))


def pooled(runs: Float64, exact: Float64, judged: NDArray[np.bool_], golden: GoldenSet, dtype: Dtype) -> Floors:
    """The worst error of a kind over its judged images and the evaluations, not below what the format allows."""
    worst = errors(runs, exact).max(axis=0)
    kinds = np.array(golden.kinds)
    return {
        kind: max(float(worst[(kinds == kind) & judged].max()), SMALLEST_FLOOR[dtype])
        for kind in golden.unique_kinds
        if (judged & (kinds == kind)).any()
    }


def _geometric_mean(errors: Float64) -> float:
    """Of errors that may be zero: not below the smallest floor. NaN where there is none."""
    return float(np.exp(np.log(np.maximum(errors, SMALLEST_FLOOR[Dtype.FP32])).mean())) if errors.size else float("nan")


def deploy_constants(deploy: nn.Module, dtype: Dtype) -> list[tuple[str, NDArray[np.floating]]]:
    """Every tensor of the deploy form, by name, as an artifact stores it whose weights decode to `dtype`."""
    numpy_dtype = np.float16 if dtype is Dtype.FP16 else np.float32
    return [(name, tensor.detach().numpy().astype(numpy_dtype)) for name, tensor in deploy.state_dict().items()]


def quantized_constants(deploy: nn.Module, precision: Precision) -> list[tuple[str, NDArray[Any]]]:
    """Every tensor of the deploy form as a Q/DQ file stores it: weights as int8 and their scales, the rest in float32.

    Among activations with zero points the attention biases have one too. By the names that ONNX Runtime's quantizer
    gives them.
    """
    weights = set(quantizable(deploy, depthwise=precision.quantized_depthwise)) - precision.float_weights
    biases = set(addends(deploy) if precision.activations is Dtype.UINT8 else ())
    result: list[tuple[str, NDArray[Any]]] = []
    for name, value in deploy_constants(deploy, Dtype.FP32):
        if name in weights:
            integers, scale = quantized(value.astype(np.float32), largest_integer(precision.weights))
            result += [(f"{name}_quantized", integers), (f"{name}_scale", scale)]
        elif name in biases:
            stored, scale, zero = affine(value.astype(np.float32))
            result += [(f"{name}_quantized", stored), (f"{name}_scale", scale), (f"{name}_zero_point", zero)]
        else:
            result.append((name, value))
    return result


def image_constants(preprocessing: Preprocessing) -> list[tuple[str, NDArray[np.floating]]]:
    """Scale and bias of an image input: 1/255 and minus the mean, in float32 whatever the weights are in."""
    bias = -np.array(preprocessing.mean, np.float32)
    return [("image scale", np.array([1 / 255], np.float32)), ("image bias", bias)]


def _perturbed(images: Tensor, dtype: Dtype, count: int) -> list[Tensor]:
    """The images, and copies of them with every value moved by about one unit in the format's last place."""
    generator = torch.Generator().manual_seed(0)
    copies = [images]
    for _ in range(count - 1):
        sign = torch.randint(0, 2, images.shape, generator=generator, dtype=torch.int8) * 2 - 1
        # In float64: in float32 itself 1 + 2^-24 is 1.
        copies.append((images.double() * (1 + sign * _UNIT_ROUNDOFF[dtype])).float())
    return copies


def _numpy(tensor: Tensor) -> Float64:
    result: Float64 = tensor.double().numpy()
    return result
