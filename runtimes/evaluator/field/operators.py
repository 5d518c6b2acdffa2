"""What each aten operator computes in exact arithmetic: linear ones exactly, every other as a keyed random function.

Equal results then mean equal programs, on every input (Schwartz 1980, Zippel 1979; for tensor programs: Wu et al.,
Mirage, OSDI 2025). Some functions are more than random, as the identities that converters use need it: the largest of
an axis is mean + H(x - mean), so that a softmax, spelled out or not, is changed by no shift and by no order of its
axis; max(x, 0) is ReLU, however it is written, and of what is not negative it is nothing.
"""

from runtimes.evaluator.field import elementwise, moving, products, writing
from runtimes.evaluator.field.tensor import FieldTensor

__all__ = ["FieldTensor", "elementwise", "moving", "products", "writing"]
