"""Saved torch.export programs on PyTorch: operator by operator, or compiled by inductor."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtimes.artifact import Artifact
from runtimes.host.machine import this_host, version
from runtimes.host.threads import torch_threads
from runtimes.precision import Dtype
from runtimes.runtime import Array, Attestation, Evidence, Mode, Session, Values
from runtimes.session import OpenSession, refused_by

# What PyTorch calls arithmetic that keeps all of float32's bits; anything else allows tf32 or bfloat16.
_EXACT = ("none", "ieee")

_COMPILED: Mapping[str, Any] = {"freezing": True, "cpp_wrapper": True}
"""Weights are constants, as every other runtime here takes them: inductor lays them out for its convolutions. What
calls the kernels is C++ as well: as fast as Python at least where it was measured (docs/benchmarks.md), and one file to
compile in the place of some fifty.
"""


class TorchProgram:
    """Runs a saved program eagerly, or, `compiled`, through `torch.compile`.

    Loading and compiling take longer than a round of timing, so each is done once for a file and a number of threads,
    and kept as long as this object lives: opening it again does not start anew. Mode.ORACLE is eager either way.
    """

    evidence = Evidence.NATIVE

    def __init__(self, *, compiled: bool = False) -> None:
        self.name = "torch.compile" if compiled else "torch"
        self._compiled = compiled
        self._programs: dict[str, Callable[..., Any]] = {}
        self._kernels: dict[tuple[str, int], Callable[..., Any]] = {}

    def unavailable(self) -> str | None:
        """PyTorch comes with every install of this project; inductor needs a C++ compiler too."""
        compiler = os.environ.get("CXX", "g++")
        if not self._compiled or shutil.which(compiler) is not None:
            return None
        return f"torch.compile needs a C++ compiler, and there is no '{compiler}': install one, or name it in CXX"

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """The options of `torch.compile`; none where it runs eagerly."""
        return dict(_COMPILED) if self._compiled else {}

    @contextmanager
    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Session]:
        """A session on `threads` threads; the count is the whole process's, and is put back on exit.

        Raises:
            StageFailed: PyTorch cannot read the file, or inductor cannot compile it.
        """
        import torch

        with torch_threads(torch.get_num_threads() if mode is Mode.DEFAULTS else threads):
            compiled = self._compiled and mode is not Mode.ORACLE
            function = self._kernel(artifact) if compiled else self._program(artifact)
            from efficientvit.model import tensors_of

            takes = artifact.model.image_size.nchw(artifact.batch)

            names = [output.name for output in artifact.model.outputs]

            def run(images: Array) -> Values:
                with torch.inference_mode(), refused_by(self.name, artifact.path.name, _errors()):
                    found = tensors_of(function(torch.tensor(images)))
                return {name: tensor.numpy() for name, tensor in zip(names, found, strict=True)}

            with closing(OpenSession(self._attest(compiled=compiled), takes, run)) as session:
                yield session

    def _program(self, artifact: Artifact) -> Callable[..., Any]:
        if artifact.sha256 not in self._programs:
            self._programs[artifact.sha256] = load_program(artifact.path)
        return self._programs[artifact.sha256]

    def _kernel(self, artifact: Artifact) -> Callable[..., Any]:
        """Compiled at its first call."""
        import torch

        key = (artifact.sha256, torch.get_num_threads())  # inductor writes the number of threads into its kernels
        if key not in self._kernels:
            self._kernels[key] = torch.compile(self._program(artifact), options=dict(_COMPILED))
        return self._kernels[key]

    def _attest(self, *, compiled: bool) -> Attestation:
        attested = attest()
        if not compiled:
            return attested
        settings = {
            **attested.settings,
            "backend": "inductor",
            **{name: str(value) for name, value in _COMPILED.items()},
        }
        return replace(attested, runtime=self.name, settings=settings)


def load_program(path: Path) -> Callable[..., Any]:
    """The program in a `.pt2` file as a function of (B, 3, H, W) float32.

    Raises:
        StageFailed: it is none, or another PyTorch's.
    """
    import torch

    with refused_by("PyTorch", path.name, _errors()):
        program: Callable[..., Any] = torch.export.load(path).module()
    return program


def _errors() -> tuple[type[Exception], ...]:
    """What PyTorch raises for a program that it can't read, run or compile (inductor's errors are RuntimeErrors)."""
    import pickle
    import zipfile

    return (RuntimeError, ValueError, OSError, pickle.UnpicklingError, zipfile.BadZipFile)


def attest() -> Attestation:
    """How PyTorch computes in this process now."""
    import torch

    mkldnn: Any = torch.backends.mkldnn  # its stub leaves out half of it
    precisions = {
        "backends.mkldnn.fp32_precision": mkldnn.fp32_precision,
        "backends.mkldnn.conv.fp32_precision": mkldnn.conv.fp32_precision,
        "backends.mkldnn.matmul.fp32_precision": mkldnn.matmul.fp32_precision,
    }
    return Attestation(
        runtime="torch",
        version=version("torch"),
        precision=Dtype.FP32 if all(value in _EXACT for value in precisions.values()) else Dtype.BF16,
        threads=torch.get_num_threads(),
        isa=this_host().isa,
        settings={
            "backends.cpu.get_cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "backends.mkldnn.is_available": str(mkldnn.is_available()),
            "backends.mkldnn.enabled": str(mkldnn.enabled),
            "get_float32_matmul_precision": torch.get_float32_matmul_precision(),
            **precisions,
        },
    )
