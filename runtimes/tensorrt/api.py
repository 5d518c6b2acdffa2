"""TensorRT's two products under one set of names, and what differs between them and their versions.

Enterprise TensorRT (`tensorrt`, GPU hosts) and TensorRT for RTX (`tensorrt_rtx`, which builds ahead of time without a
GPU) share one API. All uses of either go through here; tests/runtimes/tensorrt/test_api.py holds the names used in the
project against recorded listings of versions 10 and 11.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from efficientvit.errors import BrokenArtifact, MissingExtra, StageFailed
from runtimes.host.gpu import count_gpus

ENTERPRISE, RTX = "tensorrt", "tensorrt-rtx"
MODULES = {ENTERPRISE: "tensorrt", RTX: "tensorrt_rtx"}


@dataclass(frozen=True, slots=True)
class Product:
    """One of the two, imported. `name` as manifests have it."""

    name: str
    trt: Any

    @property
    def version(self) -> str:
        """Of the library; an engine runs on this one alone."""
        return str(self.trt.__version__)

    @property
    def enterprise(self) -> bool:
        """Builds for the GPU of the host; the other builds ahead of time for whole architectures."""
        return self.name == ENTERPRISE


def installed() -> tuple[str, ...]:
    """The products that this host can import, the one to prefer first: enterprise needs a GPU for anything it does."""
    wanted = (ENTERPRISE, RTX) if count_gpus() else (RTX,)
    return tuple(name for name in wanted if find_spec(MODULES[name]) is not None)


def product(name: str | None = None) -> Product:
    """The product called `name`, or the preferred one.

    Raises:
        MissingExtra: it is not installed.
    """
    chosen = name or next(iter(installed()), RTX)
    if find_spec(MODULES[chosen]) is None:
        raise MissingExtra(MODULES[chosen], "tensorrt", "parsing and building a TensorRT network")
    return Product(chosen, importlib.import_module(MODULES[chosen]))


@dataclass(slots=True)
class Messages:
    """TensorRT's messages by severity, in order."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def of(self, *severities: str) -> list[str]:
        """The messages of these severities."""
        return [text for severity, text in self.lines if severity in severities]

    def errors(self) -> str:
        """Its errors, in one line."""
        return "; ".join(self.of("ERROR", "INTERNAL_ERROR")) or "no reason given"


def _logger(trt: Any, messages: Messages) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps every message, the verbose ones too: the builder lists the compiled layers among them."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            messages.lines.append((severity.name, msg))

    return Logger()


@dataclass(frozen=True, slots=True)
class Parsed:
    """A network as TensorRT's ONNX parser understood a file, and what it hangs on."""

    product: Product
    builder: Any
    network: Any
    messages: Messages


@contextmanager
def parsed(path: Path, using: Product) -> Iterator[Parsed]:
    """Parse an ONNX file into a strongly typed network; everything is freed on exit.

    Raises:
        StageFailed: the parser refuses the file; it names the node and, by the node's name, our module.
    """
    trt, messages = using.trt, Messages()
    logger = _logger(trt, messages)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what the bindings raise for a factory that gave nothing
        raise StageFailed(
            f"{using.name} {using.version} gives no builder",
            got=messages.errors(),
            next_step="enterprise TensorRT builds on a GPU host only; TensorRT for RTX builds without a GPU",
        ) from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        errors = [_said(parser.get_error(i)) for i in range(parser.num_errors)]
        raise StageFailed(
            f"{using.name} {using.version} cannot parse {path.name}",
            got="; ".join(errors) or messages.errors(),
            next_step="the node's name begins with the module of the model that it comes from",
        )
    try:
        yield Parsed(using, builder, network, messages)
    finally:
        del network, parser, builder  # in this order, before the logger


def engine_logger(using: Product) -> tuple[Any, Messages]:
    """A logger for `Runtime`, and its messages. It must outlive whatever it is given to."""
    messages = Messages()
    return _logger(using.trt, messages), messages


def _said(error: Any) -> str:
    if not error.node_name():  # of the file as a whole
        return str(error.desc())
    return f"node '{error.node_name()}' ({error.node_operator()}): {error.desc()}"


def sized(dims: Any) -> list[int] | None:
    """Dimensions as numbers, -1 where dynamic; None where they are not given."""
    try:
        return None if dims is None else [int(size) for size in dims]
    except ValueError:  # a Dims that was never set has a negative length
        return None


def block_shape(layer: Any) -> list[int] | None:
    """Of a quantizer in blocks; only some versions have it, and it raises where there are no blocks."""
    try:
        return sized(layer.block_shape) or None
    except (AttributeError, RuntimeError):
        return None


def require(condition: bool, layer: str, what: str) -> None:
    """Refuse what is not supported.

    Raises:
        BrokenArtifact: naming the layer and what is not supported.
    """
    if not condition:
        raise BrokenArtifact(f"layer '{layer}' of the parsed network is not supported", got=what)
