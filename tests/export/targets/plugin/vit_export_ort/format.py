"""Format `ort`: how its files are read and run."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from efficientvit.errors import StageFailed
from runtimes.artifact import Artifact
from runtimes.host.machine import this_host, version
from runtimes.interface import Port, Ports
from runtimes.precision import Dtype
from runtimes.reader import Constant, Layers, Reader
from runtimes.registry import Row
from runtimes.runtime import Array, Attestation, Evidence, Mode, Session, Values
from runtimes.session import OpenSession

_SHIPPED = {"graph_optimization_level": "ORT_DISABLE_ALL"}


class OrtReader(Reader):
    """Reads .ort files: the ports from a session, the constants from the flatbuffer."""

    def ports(self, artifact: Artifact) -> Ports:
        """As the file declares them."""
        session = _session(artifact.path, 1)
        takes, gives = (
            tuple(Port(port.name, "float32", tuple(port.shape)) for port in ports)
            for ports in (session.get_inputs(), session.get_outputs())
        )
        return takes, gives

    def constants(self, artifact: Artifact) -> Iterator[Constant]:
        """Initializers."""
        from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession

        graph = InferenceSession.GetRootAsInferenceSession(artifact.path.read_bytes(), 0).Model().Graph()
        for index in range(graph.InitializersLength()):
            tensor = graph.Initializers(index)
            dtype = {1: "float32", 7: "int64"}[tensor.DataType()]
            shape = [tensor.Dims(axis) for axis in range(tensor.DimsLength())]
            yield tensor.Name().decode(), tensor.RawDataAsNumpy().view(dtype).reshape(shape)

    def count_operators(self, artifact: Artifact) -> int | None:
        """Of its graph."""
        from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession

        model = InferenceSession.GetRootAsInferenceSession(artifact.path.read_bytes(), 0).Model()
        return int(model.Graph().NodesLength())

    def layers(self, artifact: Artifact, mode: Mode, output: str | None) -> Layers:
        """Nobody can look into a session of an .ort file."""
        raise StageFailed(f"the layers of {artifact.path.name} cannot be run one by one")


class OrtRuntime:
    """Runs .ort files on ONNX Runtime's CPU provider."""

    name = "onnxruntime"
    evidence = Evidence.NATIVE

    def unavailable(self) -> str | None:
        """It comes with vit-export."""
        return None

    def shipped_settings(self, artifact: Artifact) -> Mapping[str, Any]:
        """What is in the file is what runs."""
        return dict(_SHIPPED)

    @contextmanager
    def open(self, artifact: Artifact, mode: Mode = Mode.SHIPPED, threads: int = 1) -> Iterator[Session]:
        """A session; every mode is the same here."""
        session = _session(artifact.path, threads)
        (image,) = session.get_inputs()

        def run(images: Array) -> Values:
            names = [output.name for output in session.get_outputs()]
            return dict(zip(names, session.run(names, {image.name: images}), strict=True))

        shape = tuple(size if isinstance(size, int) else None for size in image.shape)
        runs = Attestation("onnxruntime", version("onnxruntime"), Dtype.FP32, threads, this_host().isa, dict(_SHIPPED))
        with closing(OpenSession(runs, shape, run)) as opened:
            yield opened


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _SHIPPED["graph_optimization_level"])
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


ROW = Row("ONNX Runtime file", (OrtRuntime(),), OrtReader())
