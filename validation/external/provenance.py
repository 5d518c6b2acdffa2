"""Which of an external file's weights are the checkpoint's."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efficientvit.deploy import rewrites
from efficientvit.deploy.image_input import per_std
from efficientvit.digests import tensor_digest
from runtimes.external import Foreign
from runtimes.registry import read_constants
from validation.metrics import Float64
from validation.reference.model import ReferenceModel

_SMALL = 8
"""Smaller constants are not weights, but axes, shapes, epsilons."""

_NEAR = 1e-5


@dataclass(frozen=True, slots=True)
class Traced:
    """How many of the file's weights are the checkpoint's, `bitwise` or but for `rounding`, and the others' names."""

    bitwise: int
    rounding: int
    lost: tuple[str, ...]

    @property
    def known(self) -> int:
        """Those that could be traced."""
        return self.bitwise + self.rounding

    def __str__(self) -> str:
        total = self.known + len(self.lost)
        said = f"{self.bitwise} of {total} weights are the checkpoint's bit for bit, {self.rounding} within rounding"
        some = ", ".join(self.lost[:3]) + (" …" if len(self.lost) > 3 else "")
        return f"{said}; {len(self.lost)} could not be traced: {some}" if self.lost else said


def trace_constants(foreign: Foreign, model: ReferenceModel) -> Traced:
    """Look for each of the file's weights among the tensors of the trained, the folded and the deploy form."""
    exact, near = _known(model)
    bitwise, rounding, lost = 0, 0, list[str]()
    for name, value in read_constants(foreign.artifact):
        if value.dtype.kind != "f" or value.size < _SMALL:
            continue
        if tensor_digest(value.astype(np.float32)) in exact or tensor_digest(_flipped(value)) in exact:
            bitwise += 1
        elif any(_alike(value, other) for other in near.get(value.size, ())):
            rounding += 1
        else:
            lost.append(name)
    return Traced(bitwise, rounding, tuple(lost))


def _flipped(value: NDArray[np.generic]) -> NDArray[np.float32]:
    """A matrix as the other convention has it."""
    result: NDArray[np.float32] = np.ascontiguousarray(value.T if value.ndim == 2 else value).astype(np.float32)
    return result


def _known(model: ReferenceModel) -> tuple[set[str], dict[int, list[Float64]]]:
    """Every tensor of the trained form, the folded form and the deploy form: its digest; and its values by size.

    So too the first convolution's weights divided by std, or by 255 times std, of a file that takes pixels.
    """
    folded = rewrites.rewritten(model.trained, rewrites.REWRITES[:1])
    tensors = [tensor for form in (model.trained, folded, model.rewritten) for tensor in form.state_dict().values()]
    tensors += [per_std(folded, [top * each for each in model.given.preprocessing.std]) for top in (1, 255)]
    digests: set[str] = set()
    by_size: dict[int, list[Float64]] = {}
    for tensor in tensors:
        if tensor.is_floating_point():
            value: Float64 = tensor.double().numpy()
            digests.add(tensor_digest(value.astype(np.float32)))
            by_size.setdefault(value.size, []).append(value)
    return digests, by_size


def _alike(value: NDArray[np.generic], other: Float64) -> bool:
    mine: Float64 = np.asarray(value, np.float64)
    tolerance = (2.0**-10 if value.dtype == np.float16 else _NEAR) * max(float(np.linalg.norm(other)), 1e-300)
    shapes = (mine, mine.T) if mine.ndim == 2 else (mine,)
    return any(float(np.linalg.norm(form.reshape(-1) - other.reshape(-1))) <= tolerance for form in shapes)
