"""What differs between two manifests of a model: as recorded, nothing is run."""

from collections.abc import Iterator
from dataclasses import dataclass

from export.commands.fail_on import FailOn
from export.folder.manifest import Manifest
from export.folder.records import PrecisionRecord
from validation.accuracy.unpaired import unpaired_noise


@dataclass(frozen=True, slots=True)
class Finding:
    """Something of a kind (`export.commands.fail_on.KINDS`) that is not the same.

    `growth`: as a share, where it is a number.
    """

    kind: str
    old: str
    new: str
    worse: bool
    growth: float | None = None
    detail: str = ""

    def fails(self, limits: FailOn) -> bool:
        """It is of a kind that may not get worse, or not so much."""
        if not self.worse or self.kind not in limits:
            return False
        return self.growth is None or self.growth > limits[self.kind]


def recorded_differences(before: Manifest, after: Manifest) -> Iterator[Finding]:
    """Weights, tools, precision, and accuracy on labeled images."""
    if (a := before.weights.sha256) != (b := after.weights.sha256):
        yield Finding("weights", a[:12], b[:12], worse=True)
    for tool in sorted({*before.tools, *after.tools}):
        a, b = (each.tools.get(tool, "none") for each in (before, after))
        if a != b:
            yield Finding("tools", f"{tool} {a}", f"{tool} {b}", worse=True)
    if (one := _precision(before.precision)) != (other := _precision(after.precision)):
        yield Finding("precision", one, other, worse=True)
    yield from _accuracy(before, after)


def _accuracy(old: Manifest, new: Manifest) -> Iterator[Finding]:
    """What was measured of both on labeled images, where a fall is more than noise: they are not paired here."""
    before, after = old.accuracy, new.accuracy
    if before is None and after is None:
        return
    if before is None or after is None:
        said = ["not measured" if each is None else f"{each.artifact.top1:.2%}" for each in (before, after)]
        yield Finding("accuracy", said[0], said[1], worse=after is None)
        return
    one, other = before.artifact.top1, after.artifact.top1
    if abs(one - other) > unpaired_noise((one, before.images), (other, after.images)):
        yield Finding("accuracy", f"{one:.2%}", f"{other:.2%}", worse=other < one, growth=one - other)


def _precision(precision: PrecisionRecord | None) -> str:
    if precision is None:
        return "none"
    left = f", {len(precision.float_layers)} layers in fp32" if precision.float_layers else ""
    return f"{precision.weights} weights, {precision.activations} activations, {precision.execution} arithmetic{left}"
