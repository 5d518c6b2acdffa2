"""The `Runtime` protocol: it opens an artifact and attests how it runs it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.artifact import Artifact
from runtimes.precision import Dtype

Array = NDArray[np.float32]
Images = NDArray[np.float32] | NDArray[np.uint8]
"""(B, 3, H, W) float32, normalized; or (B, H, W, 3) uint8 R G B, for an artifact that takes images."""

Values = Mapping[str, Array]
"""What an artifact gives of a batch: by output, (B, ...) float32."""

Answer = tuple[str, Mapping[str, float]]
"""A classifier's answer for one image: the label, and the probability of each."""


class Evidence(StrEnum):
    """What a verdict rests on.

    NATIVE: the real runtime ran the very file that ships. VENDOR: the vendor's own runtime did, on another kind of
    host than the device that it is for. REFERENCE: an evaluator interpreted the saved file's own program, because the
    native runtime cannot exist on this host. BUILT: made, not evaluated.
    """

    NATIVE = "native"
    VENDOR = "vendor"
    REFERENCE = "reference"
    BUILT = "built"

    def at_least(self, other: "Evidence") -> bool:
        """NATIVE satisfies everything, BUILT only itself."""
        return self.rank() >= other.rank()

    def rank(self) -> int:
        """0 for BUILT, the weakest, to 3 for NATIVE."""
        return (Evidence.BUILT, Evidence.REFERENCE, Evidence.VENDOR, Evidence.NATIVE).index(self)


class Mode(StrEnum):
    """How to run an artifact.

    ORACLE: graph optimizations off where the runtime can, float32 arithmetic: what the file itself specifies.
    SHIPPED: the settings that ship beside the file: what an app that follows us gets.
    DEFAULTS: nothing set: what an app that doesn't gets, on a host like this one.
    """

    ORACLE = "oracle"
    SHIPPED = "shipped"
    DEFAULTS = "defaults"


@dataclass(frozen=True, slots=True)
class Attestation:
    """The effective settings, read back from the runtime itself where it can be asked.

    `settings` are the runtime's own property names and values, as text. `threads` 0: the runtime chose,
    and does not report it. `isa`: the widest instruction-set extension that the runtime can use on this CPU.
    """

    runtime: str
    version: str
    precision: Dtype
    threads: int
    isa: str
    settings: Mapping[str, str] = field(default_factory=dict)


class Session(Protocol):
    """An opened artifact."""

    @property
    def attestation(self) -> Attestation:
        """How it really runs."""
        ...

    @property
    def takes_tensors(self) -> bool:
        """False where only 8-bit images can be fed: a native runtime that offers no way in behind an image input."""
        ...

    @property
    def peaks(self) -> Mapping[str, float]:
        """The largest magnitude of every tensor in the last call; empty where a runtime does not expose its tensors."""
        ...

    def __call__(self, images: Images, /) -> Values:
        """Images -> every output that is a tensor, such as (B, classes) logits, synchronized on return.

        A tensor goes to the network itself: for an artifact that takes images, behind its image input, where the
        values are (pixel / 255 - mean), not yet divided by std.
        """
        ...

    def timed_ns(self, images: Images, /) -> int:
        """Run once; nanoseconds. On a GPU the device's own time, without the copies to and from it."""
        ...

    def classify(self, images: Images, /) -> Answer:
        """The label and the probabilities of one image (B = 1).

        Raises:
            BadInput: the artifact has no labels.
        """
        ...


class Runtime(Protocol):
    """One way to run one format of artifact."""

    @property
    def name(self) -> str:
        """Short, as it appears in tables: `onnxruntime`, `openvino`."""
        ...

    @property
    def evidence(self) -> Evidence:
        """What a passed check in this runtime proves."""
        ...

    def unavailable(self) -> str | None:
        """None if it can run here; else the reason and the remedy, in one sentence."""
        ...

    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> AbstractContextManager[Session]:
        """Load the artifact; what it held is freed on exit. `threads` is ignored in Mode.DEFAULTS.

        Raises:
            MissingExtra: the runtime's package is not installed.
            StageFailed: the runtime refuses the file.
        """
        ...

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """The settings of Mode.SHIPPED other than the thread count, for the file that ships beside the artifact."""
        ...
