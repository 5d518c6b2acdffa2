"""Whether a program rounds what its precision does not round: exact arithmetic does not see it, nor, perhaps, a sample.

A float16 number overflows at 65504: x - half(x) + half(x) is x up to there, and no number beyond.
"""

from runtimes.evaluator.program import FLOATS, Operation, Program
from runtimes.precision import Dtype, Precision
from validation.proof.outcome import Outcome, Proof

_TYPES = {"f16": "fp16", "f32": "fp32", "f64": "fp64"}
_CASTS = {"Cast": "to", "Convert": "destination_type", "cast": "dtype"}
_LIKE = {"CastLike": "target_type", "ConvertLike": "like"}


def narrowed(program: Program, precision: Precision) -> Proof | None:
    """The first operation that makes of what depends on the image a narrower float than the precision has."""
    allowed = {"fp32", "fp64", *(("fp16",) if precision.activations is Dtype.FP16 else ())}
    types = program.types() | {name: constant.type for name, constant in program.constants.items()}
    dependent = set(program.inputs)
    for operation in program.operations:
        if dependent.isdisjoint(operation.names()):
            continue
        dependent.update(name for name, _ in operation.outputs)
        made = {declared.dtype for _, declared in operation.outputs if declared is not None}
        if (like := _LIKE.get(operation.kind)) is not None:
            target = types.get(str(operation.inputs[like]))
            made.add("float of an unknown width" if target is None else target.dtype)
        made.add(_asked(program, operation))
        if other := sorted(made & (FLOATS | {"float of an unknown width"}) - allowed):
            said = f"{operation.kind} '{operation.name}' makes a {other[0]} of it, which the precision has not"
            return Proof(Outcome.DIFFERENT, said, operation.name)
    return None


def _asked(program: Program, operation: Operation) -> str:
    """The type that a cast names; of others nothing."""
    given = program.constants.get(str(operation.inputs.get(_CASTS.get(operation.kind, ""))))
    name = "" if given is None else str(given.value)
    return _TYPES.get(name, name)
