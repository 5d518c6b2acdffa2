"""What every opened artifact has in common: it refuses inputs that don't fit and frees what it held."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from efficientvit.errors import BadInput, StageFailed, VitExportError
from runtimes.base import Array, Attestation

Shape = tuple[int | None, ...]
"""What an input takes, None where any size will do."""


class OpenSession:
    """A `Session` around the one function that runs the artifact.

    Args:
        attestation: how it really runs.
        takes: the shape of the artifact's input; None where any size will do.
        run: C-contiguous float32 images of that shape -> logits.
    """

    def __init__(self, attestation: Attestation, takes: Shape, run: Callable[[Array], Array]) -> None:
        self.attestation = attestation
        self._takes = takes
        self._run: Callable[[Array], Array] | None = run

    def __call__(self, images: Array, /) -> Array:
        """(B, 3, H, W) float32 normalised images -> (B, classes) float32 logits, whatever shape they come in.

        Raises:
            BadInput: the images have another shape or dtype than the artifact takes.
            StageFailed: the runtime failed on them.
        """
        if self._run is None:
            raise VitExportError(
                f"the {self.attestation.runtime} session is closed",
                next_step="run it inside its `with` block",
            )
        _require_fit(images, self._takes, self.attestation.runtime)
        return np.asarray(self._run(np.ascontiguousarray(images)), dtype=np.float32)

    def close(self) -> None:
        """Drop what the runtime holds."""
        self._run = None


def _require_fit(images: Array, takes: Shape, runtime: str) -> None:
    # Asked here because runtimes answer unevenly: OpenVINO converts float64 without a word.
    fits = len(takes) == images.ndim and all(want in (None, got) for want, got in zip(takes, images.shape, strict=True))
    if fits and images.dtype == np.float32 and len(images) > 0:
        return
    batch = f"batches of {takes[0]}" if takes and takes[0] is not None else "any batch"
    raise BadInput(
        f"the images don't fit the artifact opened in {runtime}",
        expected=f"float32 ({', '.join('any' if size is None else str(size) for size in takes)})",
        got=f"{images.dtype} {images.shape}",
        next_step=f"feed it {batch} at its own image size, or export it again for what is needed",
    )


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
