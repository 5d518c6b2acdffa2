"""Run an opened artifact on the golden inputs, in batches of distinct images, and watch its tensors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import StageFailed
from runtimes.interface import OUTPUT
from runtimes.runtime import Array, Images, Session
from validation.inputs.golden_set import Kind
from validation.metrics import LARGEST_HALF, Agreement, top1_agreement
from validation.reference.reference import Reference

_Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What all golden images gave, by output (n, values), from running them in batches of `batch`."""

    batch: int
    values: Mapping[str, NDArray[np.float32]]

    @property
    def logits(self) -> NDArray[np.float32]:
        """(n, classes): a classifier's."""
        return self.values[OUTPUT]


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest magnitude that a tensor reached, and the image on which it did."""

    tensor: str
    value: float
    image: str

    def __str__(self) -> str:
        return f"'{self.tensor}' reaches {self.value:.4g} on {self.image}, {self.value / LARGEST_HALF:.2%} of 65504"


@dataclass(slots=True)
class Peaks:
    """The largest magnitudes seen, of calls with ordinary images alone and of those with an amplified one."""

    ordinary: Peak | None = None
    amplified: Peak | None = None

    def see(self, session: Session, reference: Reference, rows: _Rows) -> None:
        """Take in what the last call of `session`, on these golden images, showed of its tensors."""
        if not session.peaks:
            return
        # An infinite value is the first of its kind, the others follow from it.
        tensor = max(session.peaks, key=session.peaks.__getitem__)
        amplified = [row for row in rows if reference.golden.kinds[row] is Kind.AMPLIFIED]
        peak = Peak(tensor, session.peaks[tensor], reference.golden.names[(amplified or list(rows))[0]])
        if amplified:
            self.amplified = max(self.amplified or peak, peak, key=lambda p: p.value)
        else:
            self.ordinary = max(self.ordinary or peak, peak, key=lambda p: p.value)


@dataclass(slots=True)
class Run:
    """What all golden images gave in batches of one size; NaN where the artifact cannot be fed the image."""

    outputs: Outputs
    fed: NDArray[np.bool_]
    peaks: Peaks = field(default_factory=Peaks)


def run_golden(session: Session, reference: Reference, batch: int) -> Run:
    """Run `session` on every golden image that it can take.

    An artifact with an image input is given 8-bit images as such, one by one, and what has no pixels (noise,
    amplified images) behind that input, where the runtime offers a way in.

    Raises:
        StageFailed: the session returns other outputs, or another shape than (batch, values).
    """
    wide = {name: expected.right.shape for name, expected in reference.outputs.items()}
    found = {name: np.full(shape, np.nan, np.float32) for name, shape in wide.items()}
    run = Run(Outputs(batch, found), np.zeros(len(reference.golden), bool))
    inputs = reference.inputs
    for rows in _batches(reference, batch):
        images: Images = inputs[rows]
        if reference.image_input:
            (row,) = rows
            if reference.golden.members[row].has_pixels:
                images = reference.golden.members[row].data[None]
            elif not session.takes_tensors:
                continue
        answer = session(images)
        _require_shapes(answer, batch, wide)
        for name, values in answer.items():
            found[name][rows] = values.reshape(batch, -1)
        run.fed[rows] = True
        run.peaks.see(session, reference, rows)
    return run


def _require_shapes(answer: Mapping[str, Array], batch: int, wide: Mapping[str, tuple[int, ...]]) -> None:
    got = {name: (len(values), values[0].size if len(values) else 0) for name, values in answer.items()}
    expected = {name: (batch, shape[1]) for name, shape in wide.items()}
    if got != expected:
        what = "logits" if list(expected) == [OUTPUT] else "outputs"
        raise StageFailed(
            f"the artifact returns {what} of the wrong shape",
            expected=", ".join(f"'{name}' {shape}" for name, shape in expected.items()),
            got=", ".join(f"'{name}' {shape}" for name, shape in got.items()),
            next_step="the graph's output is not the classifier's" if what == "logits" else "export it again",
        )


def agreement(reference: Reference, outputs: Outputs) -> Agreement | None:
    """Top-1 over the judged ordinary images; None where there are no classes."""
    if not reference.gives_logits:
        return None
    kinds, allowed_of = reference.kinds, reference.classifier.allowed
    rows = np.concatenate([reference.rows(kind) for kind in kinds])
    allowed = np.concatenate([np.full(len(reference.rows(kind)), allowed_of(kind)) for kind in kinds])
    return top1_agreement(outputs.logits[rows], reference.logits[rows], allowed)


def _batches(reference: Reference, batch: int) -> Iterator[_Rows]:
    """Batches of distinct images in a shuffled order: copies would hide a mixed-up batch, and order an off-by-one.

    Amplified images come last, in a batch filled up with others, so that what they do to a tensor's magnitude is
    not laid on ordinary ones. Each group's last batch is filled up with the first ordinary images.
    """
    amplified = np.array([kind is Kind.AMPLIFIED for kind in reference.golden.kinds])
    order = shuffled(len(amplified), batch)
    ordinary, last = order[~amplified[order]], order[amplified[order]]
    for group in (ordinary, last):
        yield from in_batches(group, ordinary if len(ordinary) else group, batch)


def shuffled(count: int, batch: int) -> _Rows:
    """The numbers below `count`, in an order that depends on nothing but the batch size; alone, in their own."""
    if batch == 1:
        return np.arange(count)
    return np.random.Generator(np.random.PCG64(batch)).permutation(count)


def in_batches(rows: _Rows, filling: _Rows, batch: int) -> Iterator[_Rows]:
    """`rows` in batches, the last filled up with the first of `filling`."""
    filled = np.concatenate([rows, filling])
    for start in range(0, len(rows), batch):
        yield np.take(filled, range(start, start + batch), mode="wrap")
