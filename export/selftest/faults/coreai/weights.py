"""Faults in the weights of a Core AI asset, where they lie: the program is as it was."""

import numpy as np

from export.selftest.faults.coreai.asset import Array, opened_weights
from export.selftest.faults.fault import NUMBERS, Rng, Table, alike, in_file, next_up, one_changed, pick

fault = Table("coreai", in_file(opened_weights), "fp16 coreai")

Weights = dict[str, Array]


def _ending(weights: Weights, *endings: str) -> list[str]:
    """Names of tensors with more than one value."""
    return [name for name, value in weights.items() if name.endswith(endings) and np.unique(value).size > 1]


@fault("constants", "fp16 coreai", "fp32 coreai", also=NUMBERS)
def last_bit(weights: Weights, rng: Rng) -> None:
    """The last bit of one weight."""
    one_changed(weights[pick(rng, _ending(weights, "weight"))], rng, next_up)


@fault("constants", also=NUMBERS)
def snapped(weights: Weights, rng: Rng) -> None:
    """The smallest number that float16 has in the place of a weight that is less: what Apple's cast makes of it."""
    name = pick(rng, _ending(weights, "weight"))
    flat = weights[name].reshape(-1)
    flat[int(np.abs(flat).argmin())] = np.float16(2.0**-24)


@fault("constants", also=NUMBERS)
def sign(weights: Weights, rng: Rng) -> None:
    """One weight with the other sign."""
    name = pick(rng, _ending(weights, "project_weight", "expand_weight"))
    flat = weights[name].reshape(-1)
    flat[int(np.abs(flat).argmax())] *= -1


@fault("constants", "fp32 coreai", also=NUMBERS)
def rounded_to_half(weights: Weights, rng: Rng) -> None:
    """A tensor of the float32 asset rounded to float16 on the way."""
    name = pick(rng, _ending(weights, "weight"))
    weights[name] = weights[name].astype(np.float16).astype(np.float32)


@fault("constants", also=NUMBERS)
def flipped_kernel(weights: Weights, rng: Rng) -> None:
    """Kernels mirrored: a correlation in the place of a convolution."""
    kernels = [name for name in _ending(weights, "weight") if weights[name].shape[2:] == (3, 3)]
    name = pick(rng, kernels)
    weights[name] = np.ascontiguousarray(weights[name][:, :, ::-1, ::-1])


@fault("constants", also=NUMBERS)
def swapped_tensors(weights: Weights, rng: Rng) -> None:
    """Two tensors of one shape in each other's place."""
    one, other = pick(rng, alike(_ending(weights, "weight"), lambda name: weights[name].shape))
    weights[one], weights[other] = weights[other].copy(), weights[one].copy()


@fault("constants", also=NUMBERS)
def shifted_channels(weights: Weights, rng: Rng) -> None:
    """The channels of one weight moved on by one."""
    name = pick(rng, [name for name in _ending(weights, "weight") if len(weights[name]) > 1])
    weights[name] = np.roll(weights[name], 1, axis=0)


@fault("constants", also=NUMBERS)
def stale_bias(weights: Weights, rng: Rng) -> None:
    """A bias from before the last training step: each value a little off."""
    name = pick(rng, _ending(weights, "bias"))
    weights[name] = (weights[name] * np.float64(1.01)).astype(weights[name].dtype)


@fault("constants", also=NUMBERS)
def lost_channel(weights: Weights, rng: Rng) -> None:
    """One output channel of zeros."""
    name = pick(rng, _ending(weights, "project_weight", "expand_weight"))
    weights[name][int(rng.integers(len(weights[name])))] = 0


@fault("constants", also=(*NUMBERS, "labels"))
def not_a_number(weights: Weights, rng: Rng) -> None:
    """One weight that is no number."""
    one_changed(weights[pick(rng, _ending(weights, "weight"))], rng, lambda _: np.nan)
