"""A runtime whose answers are written down: for faults that a real one can't be made to show.

A script is what a session does with a batch. Scripts wrap scripts, so a fault is planted in a healthy model:

    FakeRuntime(reversed_batch(model))
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from efficientvit.errors import StageFailed, VitExportError
from runtimes.artifact import Artifact
from runtimes.interface import OUTPUT
from runtimes.precision import Dtype
from runtimes.runtime import Array, Attestation, Evidence, Mode, Session, Values
from runtimes.session import OpenSession

Script = Callable[[Array], Array]
"""(B, 3, H, W) float32 -> the logits that the session returns."""


class FakeRuntime:
    """Opens any artifact, without reading it, as a session that follows `script`.

    Args:
        script: what every session answers; or one script a mode, for a runtime whose defaults differ.
        name: as it appears in tables.
        evidence: what it claims to prove.
        reason: why it can't run here, if it can't.
        refuses: raised by `open`.
        precision: the arithmetic that its sessions attest.
    """

    def __init__(
        self,
        script: Script | Mapping[Mode, Script],
        *,
        name: str = "fake",
        evidence: Evidence = Evidence.NATIVE,
        reason: str | None = None,
        refuses: VitExportError | None = None,
        precision: Dtype = Dtype.FP32,
    ) -> None:
        self.name = name
        self.evidence = evidence
        self.opened: list[Mode] = []
        self._scripts = script if isinstance(script, Mapping) else dict.fromkeys(Mode, script)
        self._reason = reason
        self._refuses = refuses
        self._precision = precision

    def unavailable(self) -> str | None:
        """The reason that it was made with."""
        return self._reason

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """None to speak of."""
        return {}

    @contextmanager
    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Session]:
        """A session on the script of `mode`; the modes asked for are kept in `opened`."""
        if self._refuses is not None:
            raise self._refuses
        self.opened.append(mode)
        attestation = Attestation(
            runtime=self.name,
            version="0",
            precision=self._precision,
            threads=0 if mode is Mode.DEFAULTS else threads,
            isa="none",
        )
        script = self._scripts[mode]

        def run(images: Array) -> Values:
            return {OUTPUT: script(images)}

        with closing(OpenSession(attestation, (None, 3, None, None), run)) as session:
            yield session


def constant(logits: Array) -> Script:
    """Ignores its input: (classes,) for every image."""
    return lambda images: np.tile(np.asarray(logits, np.float32), (len(images), 1))


def not_a_number(script: Script, index: int = 0) -> Script:
    """One NaN, in the first image's logit `index`."""

    def run(images: Array) -> Array:
        logits = script(images).copy()
        logits[0, index] = np.nan
        return logits

    return run


def reversed_batch(script: Script) -> Script:
    """The right logits, of the wrong images; right at batch 1."""
    return lambda images: script(images)[::-1]


def first_of_batch(script: Script) -> Script:
    """Every image gets the first one's logits, as from a graph that lost its batch dimension."""
    return lambda images: np.repeat(script(images[:1]), len(images), axis=0)


def missing_row(script: Script) -> Script:
    """(B - 1, classes): one row too few."""
    return lambda images: script(images)[:-1]


def shifted(script: Script, offset: float, index: int = 0) -> Script:
    """`offset` added to the logit `index` of every image: a wrong bias."""

    def run(images: Array) -> Array:
        logits = script(images).copy()
        logits[:, index] += np.float32(offset)
        return logits

    return run


def slow(script: Script, delay_s: float) -> Script:
    """Sleeps before every answer."""

    def run(images: Array) -> Array:
        time.sleep(delay_s)
        return script(images)

    return run


def failing(error: VitExportError | None = None) -> Script:
    """Raises `error`, or a StageFailed, instead of answering."""

    def run(images: Array) -> Array:
        raise error or StageFailed(f"the fake runtime fails on images {images.shape}, as scripted")

    return run
