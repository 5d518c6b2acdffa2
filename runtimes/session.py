"""An opened artifact: refuses inputs that do not fit, and frees its resources when closed."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import BadInput, StageFailed, VitExportError
from runtimes.runtime import Answer, Array, Attestation, Images, Values

Shape = tuple[int | None, ...]
"""What an input takes, None where any size will do."""


class OpenSession:
    """A `Session` around the functions that run the artifact.

    Args:
        attestation: how it really runs.
        takes: the shape of the artifact's network input, NCHW; None where any size will do.
        run: C-contiguous float32 images of that shape -> the outputs; None where only 8-bit images can be fed.
        run_pixels: C-contiguous uint8 images (B, H, W, 3) -> the outputs, of an artifact that takes images.
        classify: images, either kind -> label and probabilities, of an artifact with labels.
        peaks: filled by each call with the largest magnitude of every tensor.
        timed_ns: images -> nanoseconds of one run, where the runtime has a clock that is better than the host's.
    """

    def __init__(
        self,
        attestation: Attestation,
        takes: Shape,
        run: Callable[[Array], Values] | None,
        *,
        run_pixels: Callable[[NDArray[np.uint8]], Values] | None = None,
        classify: Callable[[Images], Answer] | None = None,
        peaks: Mapping[str, float] | None = None,
        timed_ns: Callable[[Images], int] | None = None,
    ) -> None:
        self.attestation = attestation
        self.peaks: Mapping[str, float] = {} if peaks is None else peaks
        self._takes = takes
        self._run = run
        self._run_pixels = run_pixels
        self._classify = classify
        self._timed_ns = timed_ns
        self._closed = False

    @property
    def takes_tensors(self) -> bool:
        """False where only 8-bit images can be fed."""
        return self._run is not None

    def __call__(self, images: Images, /) -> Values:
        """Images -> every output as float32, by name.

        Raises:
            BadInput: the images have another shape or dtype than the artifact takes.
            StageFailed: the runtime failed on them.
        """
        self._require_fit(images)
        if images.dtype == np.uint8:
            assert self._run_pixels is not None
            return _float32(self._run_pixels(np.ascontiguousarray(images, np.uint8)))
        assert self._run is not None
        return _float32(self._run(np.ascontiguousarray(images, np.float32)))

    def classify(self, images: Images, /) -> Answer:
        """Label and probabilities of one image.

        Raises:
            BadInput: the artifact has no labels, or takes other images.
            StageFailed: the runtime failed.
        """
        self._require_fit(images)
        if self._classify is None:
            raise BadInput(
                f"the artifact opened in {self.attestation.runtime} has no labels",
                next_step="export it with --labels, or take the logits",
            )
        return self._classify(images)

    def timed_ns(self, images: Images, /) -> int:
        """Run once; the time in nanoseconds, by the runtime's own clock if it has one."""
        self._require_fit(images)
        if self._timed_ns is not None:
            return self._timed_ns(images)
        start = time.perf_counter_ns()
        self(images)
        return time.perf_counter_ns() - start

    def close(self) -> None:
        """Free what the runtime holds."""
        self._closed = True
        self._run = self._run_pixels = self._classify = self._timed_ns = None

    def _require_fit(self, images: Images) -> None:
        """Checked here because runtimes differ: OpenVINO converts float64 silently."""
        if self._closed:
            raise VitExportError(
                f"the {self.attestation.runtime} session is closed",
                next_step="run it inside its `with` block",
            )
        batch, channels, *sides = self._takes
        forms: list[tuple[str, Shape]] = []
        if self._run is not None:
            forms.append(("float32", self._takes))
        if self._run_pixels is not None:
            forms.append(("uint8", (batch, *sides, channels)))
        if any(images.dtype == dtype and _fits(images.shape, shape) for dtype, shape in forms):
            return
        batches = "any batch" if batch is None else f"batches of {batch}"
        raise BadInput(
            f"the images don't fit the artifact opened in {self.attestation.runtime}",
            expected=" or ".join(f"{dtype} {_text(shape)}" for dtype, shape in forms),
            got=f"{images.dtype} {images.shape}",
            next_step=f"feed it {batches} at its own image size, or export it again for what is needed",
        )


def session_of(attestation: Attestation, takes: Shape, run: Callable[[Any], Values], *, images: bool) -> OpenSession:
    """A session on a file whose one input is a tensor `takes`, or, where it takes `images`, (B, H, W, 3) of bytes."""
    if not images:
        return OpenSession(attestation, takes, run)
    batch, height, width, channels = takes
    return OpenSession(attestation, (batch, channels, height, width), None, run_pixels=run)


def _float32(values: Mapping[str, NDArray[Any]]) -> Values:
    return {name: np.asarray(value, dtype=np.float32) for name, value in values.items()}


def _fits(got: tuple[int, ...], takes: Shape) -> bool:
    same_rank = len(takes) == len(got) and got[0] > 0
    return same_rank and all(want in (None, size) for want, size in zip(takes, got, strict=True))


def _text(shape: Shape) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


@contextmanager
def refused_by(runtime: str, what: str, errors: Sequence[type[Exception]]) -> Iterator[None]:
    """Turn the runtime's own `errors` into one of ours.

    Raises:
        StageFailed: with the runtime's message; its error is the cause.
    """
    try:
        yield
    except tuple(errors) as error:
        raise StageFailed(
            f"{runtime} refuses {what}",
            got=str(error).strip(),
            next_step="export it again; if it is fresh, this runtime lacks what the file asks for",
        ) from error
