"""An engine for the GPU kit: the shipped one, or one that is built on this host from the typed ONNX file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from kit_common import DATA, HERE, Record


class Product:
    """TensorRT or TensorRT for RTX, imported, and what it says."""

    def __init__(self, trt: Any, name: str, shipped: bool) -> None:
        said: list[str] = []

        class Logger(trt.ILogger):  # type: ignore[misc]
            """Keeps errors, and prints what else is worth it."""

            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                if severity.name in ("ERROR", "INTERNAL_ERROR"):
                    said.append(msg)
                if severity.name in ("ERROR", "INTERNAL_ERROR", "WARNING"):
                    print(f"{severity.name}: {msg}", file=sys.stderr)

        self.trt, self.name, self.shipped = trt, name, shipped
        self.logger = Logger()
        self._said = said
        self.runtime = trt.Runtime(self.logger)

    @property
    def version(self) -> str:
        """Of the library."""
        return str(self.trt.__version__)

    def why(self) -> str:
        """The errors since the last time."""
        text = "; ".join(self._said) or "no reason given"
        self._said.clear()
        return text


@dataclass(frozen=True)
class Opened:
    """An engine, its bytes, whether it is the `shipped` or a `rebuilt` one, and why it was rebuilt."""

    engine: Any
    plan: bytes
    origin: str
    reason: str | None


def open_engine(kit: Record, product: Product) -> Opened:
    """The shipped engine, or where it is not this product's or is refused, one that is built here."""
    if product.shipped:
        plan = (DATA / kit["package"]["path"]).read_bytes()
        engine = product.runtime.deserialize_cuda_engine(plan)
        if engine is not None:
            return Opened(engine, plan, "shipped", None)
        reason = f"{product.name} {product.version} refused the shipped engine: {product.why()}"
    else:
        reason = f"the shipped engine is one of {kit['engine']['built_with']['product']}"
    plan = build(kit, product)
    engine = product.runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise SystemExit(f"{product.name} {product.version} refuses the engine that it has just built: {product.why()}")
    return Opened(engine, plan, "rebuilt", reason)


def build(kit: Record, product: Product) -> bytes:
    """An engine for this GPU, from the typed ONNX file, in the precision that the file says."""
    trt = product.trt
    builder = trt.Builder(product.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, product.logger)
    if not parser.parse_from_file(str(DATA / kit["engine"]["onnx"])):
        errors = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        said = "; ".join(errors) or product.why()
        raise SystemExit(f"{product.name} {product.version} cannot parse the ONNX file: {said}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default, and it rounds float32 to ten bits
    if hasattr(trt, "ComputeCapability"):  # TensorRT for RTX builds for whole architectures unless it is told
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.CURRENT, 0)
    if kit["engine"]["profile"] is not None:
        profile = builder.create_optimization_profile()
        image = tuple(kit["input"]["shape"][1:])
        profile.set_shape(kit["input"]["name"], *((batch, *image) for batch in kit["engine"]["profile"]))
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise SystemExit(f"{product.name} {product.version} could not build the engine: {product.why()}")
    return bytes(plan)


def keep(unit: str, plan: bytes) -> None:
    """Beside this script, for whoever wants to ship what was checked."""
    try:
        (HERE / f"rebuilt-{unit}.engine").write_bytes(plan)
    except OSError as error:
        print(f"the rebuilt engine could not be kept: {error}", file=sys.stderr)
