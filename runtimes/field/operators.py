"""What each aten operator computes in exact arithmetic: linear ones exactly, every other as a keyed random function.

Equal results then mean equal programs, on every input (Schwartz 1980, Zippel 1979; for tensor programs: Wu et al.,
Mirage, OSDI 2025). Two functions are more than random, as the identities that converters use need it: a softmax is
H(x - mean) / sum H(x - mean), which no shift and no order of its axis changes; max(x, 0) is ReLU, however it is
written.
"""

from runtimes.field import elementwise, moving, products, writing
from runtimes.field.tensor import FieldTensor

__all__ = ["FieldTensor", "elementwise", "moving", "products", "writing"]
