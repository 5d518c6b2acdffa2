"""Detours of a program that come to nothing in exact arithmetic, and to something else in floats.

x · 2^106 · 2^-106 is x up to 4·10^6, and infinite from there on; so are exp(x) · 0, (x - c) / (x - c), and
x - half(x) + half(x) right nearly everywhere. A file of our own may compute nothing that the deploy form does not
compute; of another tool's file, which folds and orders as it likes, this is what can be asked.
"""

from collections.abc import Iterator, Mapping, Set

from runtimes.evaluator.program import Operation
from validation.proof.outcome import Outcome, Proof
from validation.proof.subject import Subject
from validation.proof.values import Computed, Print

_MOVES = frozenset({
    "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "StridedSlice",
    "Tile", "Transpose", "Unsqueeze", "VariadicSplit", "concat", "expand_dims", "gather", "identity", "pad",
    "reshape", "reverse", "slice_by_index", "slice_by_size", "split", "squeeze", "stack", "tile", "transpose",
})  # fmt: skip
"""What takes tensors apart and puts them together again rounds nothing."""


def detour(subject: Subject, computed: Computed, meant: Set[Print]) -> Proof | None:
    """The first operation whose result was there before, in other values meanwhile, or depends on no image at all.

    `meant`: what the model computes. The softmax of a single token is 1, and what that weighs is as before.
    """
    makers: dict[str, Operation] = {}
    behind: dict[str, Set[Print]] = {}
    for operation in subject.program.operations:
        read = [name for name in dict.fromkeys(operation.names()) if name in computed.prints]
        before = frozenset[Print]().union(*(behind.get(name, frozenset()) | {computed.prints[name]} for name in read))
        for name, _ in operation.outputs:
            if name not in computed.prints:
                continue
            makers[name], behind[name] = operation, before
            made = computed.prints[name]
            if name in computed.flat:
                if made in meant or operation.kind in _MOVES:
                    continue
                said = f"{operation.kind} '{name}' gives one number for every image, computed from what depends on it"
                return Proof(Outcome.DIFFERENT, said, operation.name)
            if made in before and all(made != computed.prints[each] for each in read):
                way = (operation, *_computed_since(made, read, makers, computed.prints, meant))
                if any(each.kind not in _MOVES for each in way):
                    said = (
                        f"{operation.kind} '{name}' gives again what was there before {way[-1].kind} "
                        f"'{way[-1].name}': equal in exact arithmetic, not in floats"
                    )
                    return Proof(Outcome.DIFFERENT, said, operation.name)
    return None


def _computed_since(
    made: Print, read: list[str], makers: Mapping[str, Operation], prints: Mapping[str, Print], meant: Set[Print]
) -> Iterator[Operation]:
    """The operations between the same values then and now that do more than move them, and that the model has not."""
    todo, done = list(read), set[str]()
    while todo:
        name = todo.pop()
        if name in done or name not in makers or prints[name] == made:
            continue
        done.add(name)
        if makers[name].kind not in _MOVES and prints[name] not in meant:
            yield makers[name]
        todo.extend(each for each in makers[name].names() if each in prints)
