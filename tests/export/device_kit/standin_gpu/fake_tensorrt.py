"""A stand-in for TensorRT's Python API, as far as the kit uses it; fake_gpu.py says what it can be told to do."""

import enum
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

gpu = importlib.import_module("fake_gpu")


class Severity(enum.Enum):
    ERROR = 1
    WARNING = 2


class DataType(enum.Enum):
    FLOAT = 0


class Flag(enum.IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(enum.Enum):
    TF32 = 0


class ComputeCapability(enum.Enum):
    CURRENT = 1


class Strategy(enum.Enum):
    LAZY = 0
    EAGER = 1


class ILogger:
    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class Network:
    def __init__(self, flags: int) -> None:
        assert flags == 1 << Flag.STRONGLY_TYPED
        self.onnx = b""


class Profile:
    shape: tuple[Any, ...] = ()

    def set_shape(self, name: str, *shape: Any) -> None:
        assert name == "image"
        assert len(shape) == 3
        self.shape = shape


class Config:
    def __init__(self, rtx: bool) -> None:
        self._rtx = rtx
        self.tf32, self.profile = True, Profile()
        self.targets: list[ComputeCapability] = []

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.tf32 = False

    def set_compute_capability(self, target: ComputeCapability, index: int) -> None:
        assert self._rtx, "enterprise TensorRT has no such thing"
        self.targets = [target]

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profile = profile


class Parser:
    num_errors = 0

    def __init__(self, network: Network, logger: ILogger) -> None:
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        self._network.onnx = Path(path).read_bytes()
        return True


class RuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = Strategy.LAZY


class Context:
    def __init__(self, unit: str) -> None:
        self._answers = gpu.Answers(unit)
        self._shape: tuple[int, ...] = ()
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        self._shape = tuple(shape)
        return shape[0] in gpu.PLAN["batches"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "logits"
        return (self._shape[0], self._answers.classes)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == gpu.STREAM
        images = gpu.array_at(self._addresses["image"], self._shape)
        logits = gpu.array_at(self._addresses["logits"], self.get_tensor_shape("logits"))
        gpu.enqueue(lambda: self._answers.write(images, logits))
        return True


class Engine:
    def __init__(self, unit: str) -> None:
        self._unit = unit

    def get_tensor_dtype(self, name: str) -> DataType:
        assert name in ("image", "logits")
        return DataType.FLOAT

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_execution_context(self, config: RuntimeConfig | None = None) -> Context:
        eager = config is not None and config.dynamic_shapes_kernel_specialization_strategy is Strategy.EAGER
        assert eager is (self._unit == "RTX"), "or its kernels would change while it runs"
        return Context(self._unit)


def install(module: dict[str, Any], unit: str, version: str) -> None:
    """Fill a module with the product of `unit`."""
    rtx = unit == "RTX"

    class Builder:
        def __init__(self, logger: ILogger) -> None:
            self._logger = logger

        def create_network(self, flags: int) -> Network:
            return Network(flags)

        def create_builder_config(self) -> Config:
            return Config(rtx)

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            if gpu.PLAN["unit"].get(unit) == "unbuildable":
                self._logger.log(Severity.ERROR, "there is no kernel for it")
                return None
            if rtx:
                assert config.targets == [ComputeCapability.CURRENT]
            assert not config.tf32, "on by default"
            profile = [shape[0] for shape in config.profile.shape]
            about = {"unit": unit, "onnx": hashlib.sha256(network.onnx).hexdigest(), "profile": profile}
            return json.dumps(about).encode()

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            shipped = hashlib.sha256(plan).hexdigest() == gpu.PLAN["shipped"]
            if shipped and gpu.PLAN["unit"].get(unit) == "refuse":
                self._logger.log(Severity.ERROR, "the engine is of another version")
                return None
            return Engine(unit)

    module.update(
        __version__=version,
        ILogger=ILogger,
        Builder=Builder,
        OnnxParser=Parser,
        NetworkDefinitionCreationFlag=Flag,
        BuilderFlag=BuilderFlag,
        Runtime=Runtime,
    )
    if rtx:
        module.update(ComputeCapability=ComputeCapability, DynamicShapesKernelSpecializationStrategy=Strategy)
    if gpu.PLAN.get("real"):
        _with_the_real_builder(module)


def _with_the_real_builder(module: dict[str, Any]) -> None:
    """TensorRT for RTX parses and builds without a GPU: here as either product, for an architecture that it knows."""
    real: Any = importlib.import_module("tensorrt_rtx_bindings")

    class Builder(real.Builder):  # type: ignore[misc]
        def create_builder_config(self) -> Any:
            config = super().create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(real.ComputeCapability.SM89, 0)
            return config

    names = ("ILogger", "OnnxParser", "NetworkDefinitionCreationFlag", "BuilderFlag")
    module.update({name: getattr(real, name) for name in names}, Builder=Builder)
