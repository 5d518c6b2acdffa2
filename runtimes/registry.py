"""The formats: a row each, with its reader, its runtimes and what belongs to its files.

A package adds a format through an entry point of the group `vit_export.formats` that has the format's name and whose
object is a `Row`:

    [project.entry-points."vit_export.formats"]
    litert = "vit_export_litert:ROW"
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from efficientvit.errors import StageFailed, Unavailable
from runtimes.artifact import COMPANIONS, Artifact, Format
from runtimes.coreai.reader import CoreAiReader
from runtimes.coreai.runtime import CoreAi
from runtimes.coreml.evaluated import MilEvaluator
from runtimes.coreml.native import CoreMl
from runtimes.coreml.reader import CoreMlReader
from runtimes.host import plugins
from runtimes.host.plugins import distribution_of
from runtimes.host.threads import torch_threads
from runtimes.interface import Ports
from runtimes.onnx.reader import OnnxReader
from runtimes.onnx.runtime import OnnxRuntime
from runtimes.openvino.reader import OpenVinoReader
from runtimes.openvino.runtime import OpenVino
from runtimes.pytorch.exported_program import TorchProgram
from runtimes.reader import Constant, Layers, Reader
from runtimes.runtime import Mode, Runtime
from runtimes.tensorrt.evaluated import TrtNetwork
from runtimes.tensorrt.native import TensorRt
from runtimes.tensorrt.reader import NetworkReader


@dataclass(frozen=True, slots=True)
class Row:
    """One format.

    `title`: as reports call it.
    `runtimes`: in order of preference; the first that is available on this host gives the verdict.
    `reader`: None where its files cannot be read, only run.
    `intermediate`: judges a file that another runtime is going to optimize, by what the file says.
    `companions`: entered into `runtimes.artifact.COMPANIONS`; for formats of installed packages.
    `external_suffix`: of files of other tools that `vit-export judge` accepts; none if empty.
    """

    title: str
    runtimes: tuple[Runtime, ...]
    reader: Reader | None = None
    intermediate: Runtime | None = None
    companions: Mapping[str, str] = field(default_factory=dict)
    external_suffix: str = ""


BUILT_IN: Mapping[Format, Row] = {
    Format.TORCH: Row("PyTorch program", (TorchProgram(),)),
    Format.ONNX: Row(
        "ONNX", (OnnxRuntime(),), OnnxReader(), intermediate=OnnxRuntime(optimized=False), external_suffix=".onnx"
    ),
    Format.OPENVINO: Row("OpenVINO IR", (OpenVino(),), OpenVinoReader(), external_suffix=".xml"),
    Format.COREML: Row("Core ML package", (CoreMl(), MilEvaluator()), CoreMlReader(), external_suffix=".mlpackage"),
    Format.COREAI: Row("Core AI asset", (CoreAi(),), CoreAiReader(), external_suffix=".aimodel"),
    Format.NETWORK: Row("TensorRT network", (TrtNetwork(),), NetworkReader()),
    Format.ENGINE: Row("TensorRT engine", (TensorRt(), TrtNetwork()), NetworkReader()),
}


def formats() -> Mapping[Format, Row]:
    """Every format, those of installed packages last.

    Raises:
        StageFailed: an installed package names a format that exists already, or its row cannot be loaded.
    """
    return {**BUILT_IN, **{file_format: row_of(file_format) for file_format in _installed()}}


def format_names() -> tuple[Format, ...]:
    """Every format's name; nothing of installed packages is imported.

    Raises:
        StageFailed: an installed package names a format that exists already.
    """
    return (*BUILT_IN, *_installed())


def external_format(suffix: str) -> Format | None:
    """The format of other tools' files with this suffix. Packages are only loaded where it is none of ours.

    Raises:
        StageFailed: as `formats`, where the suffix is none of ours.
    """
    ours = _with_suffix(suffix, BUILT_IN)
    return ours if ours is not None else _with_suffix(suffix, formats())


def _with_suffix(suffix: str, rows: Mapping[Format, Row]) -> Format | None:
    return next((each for each, row in rows.items() if suffix and row.external_suffix == suffix), None)


def row_of(file_format: Format) -> Row:
    """The row of a format. Packages are only looked for where the format is not built in.

    Raises:
        Unavailable: no such format is known on this host.
        StageFailed: an installed package names a format that exists already, or the row cannot be loaded.
    """
    if file_format in BUILT_IN:
        return BUILT_IN[file_format]
    installed = _installed()
    if file_format not in installed:
        raise Unavailable(
            f"the format '{file_format}' is unknown",
            expected=", ".join((*BUILT_IN, *installed)),
            next_step=f"install the package whose entry point '{file_format}' of the group '{plugins.FORMATS}' adds it",
        )
    return _loaded(installed[file_format])


def known_format(name: str) -> Format:
    """The format of this name, its companion files entered. Raises as `row_of` does."""
    row_of(Format(name))
    return Format(name)


def _installed() -> Mapping[Format, EntryPoint]:
    found: dict[Format, EntryPoint] = {}
    for point in plugins.installed(plugins.FORMATS):
        other = found.get(Format(point.name))
        if point.name in BUILT_IN or other is not None:
            raise StageFailed(
                f"the format '{point.name}' of the distribution '{distribution_of(point)}' exists already",
                expected=f"one entry point of that name in the group '{plugins.FORMATS}'",
                got=f"another of '{distribution_of(other)}'" if other else "a format of vit-export itself",
                next_step=f"pip uninstall {distribution_of(point)}, or rename its format",
            )
        found[Format(point.name)] = point
    return found


@cache
def _loaded(point: EntryPoint) -> Row:
    what = f"the format '{point.name}' of the distribution '{distribution_of(point)}' cannot be loaded"
    row: Row = plugins.load(point, what, "a runtimes.registry.Row with at least one runtime", _wrong_with)
    COMPANIONS.update(row.companions)
    return row


def _wrong_with(row: Any) -> str | None:
    if not isinstance(row, Row) or not row.runtimes:
        return f"{type(row).__name__}: {row!r}"[:200]
    taken = {*COMPANIONS, *(other.external_suffix for other in BUILT_IN.values())} - {""}
    clash = sorted(taken & {*row.companions, row.external_suffix})
    return f"files '{clash[0]}', which are another format's" if clash else None


def native_runtime(file_format: Format) -> Runtime:
    """The preferred runtime, whether or not it can run on this host."""
    return row_of(file_format).runtimes[0]


def runtime_for(file_format: Format, *, ships: bool = True) -> Runtime:
    """The first runtime that is available on this host; if none is, the first, which gives the reason.

    `ships` False: for a file that another runtime is going to optimize.
    """
    row = row_of(file_format)
    if row.intermediate is not None and not ships:
        return row.intermediate
    return next((runtime for runtime in row.runtimes if runtime.unavailable() is None), row.runtimes[0])


def reader_of(artifact: Artifact) -> Reader:
    """The reader of the artifact's format.

    Raises:
        StageFailed: the format has none.
    """
    reader = row_of(artifact.format).reader
    if reader is None:
        raise StageFailed(
            f"{artifact.format} artifacts cannot be read",
            expected=" or ".join(each for each, row in BUILT_IN.items() if row.reader is not None),
            got=artifact.format,
        )
    return reader


def read_ports(artifact: Artifact) -> Ports:
    """See `Reader.ports`."""
    return reader_of(artifact).ports(artifact)


def read_metadata(artifact: Artifact) -> Mapping[str, str]:
    """See `Reader.metadata`."""
    return reader_of(artifact).metadata(artifact)


def read_constants(artifact: Artifact) -> Iterator[Constant]:
    """See `Reader.constants`."""
    return reader_of(artifact).constants(artifact)


def count_operators(artifact: Artifact) -> int | None:
    """See `Reader.count_operators`; None where the format has no reader."""
    reader = row_of(artifact.format).reader
    return None if reader is None else reader.count_operators(artifact)


def unexpected_operators(artifact: Artifact) -> Mapping[str, int]:
    """See `Reader.unexpected_operators`; none where the format has no reader: nothing is lowered to it."""
    reader = row_of(artifact.format).reader
    return {} if reader is None else reader.unexpected_operators(artifact)


@contextmanager
def open_layers(
    artifact: Artifact, mode: Mode = Mode.ORACLE, threads: int = 1, output: str | None = None
) -> Iterator[Layers]:
    """See `Reader.layers`. PyTorch computes on `threads` threads inside the block."""
    with torch_threads(threads):
        yield reader_of(artifact).layers(artifact, mode, output)
