"""Every tensor of an ONNX file while it runs, from ONNX Runtime with its optimizations off."""

from pathlib import Path
from typing import Any

from runtimes.onnx.graph import load_onnx
from runtimes.onnx.runtime import oracle_session
from runtimes.reader import Values, extremes
from runtimes.runtime import Array


class OnnxTensors:
    """An opened file, or a model in memory, that shows its tensors."""

    def __init__(self, source: Path | Any) -> None:
        import onnx

        shown = onnx.ModelProto()
        shown.CopyFrom(load_onnx(source) if isinstance(source, Path) else source)
        outputs = {output.name for output in shown.graph.output}
        self.names = [name for node in shown.graph.node for name in node.output if name]
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self.names if name not in outputs)
        self._session = oracle_session(shown.SerializeToString())
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: Array) -> Values:
        """(B, 3, H, W) -> the output of every node, by name."""
        return dict(zip(self.names, self._session.run(self.names, {self._input: images}), strict=True))

    def peaks(self, images: Array, batch: int) -> dict[str, float]:
        """The largest magnitude of every floating-point tensor over the images, `batch` at a time; NaN is infinite."""
        return {name: max(-low, high) for name, (low, high) in self.extremes(images, batch).items()}

    def extremes(self, images: Array, batch: int) -> dict[str, tuple[float, float]]:
        """The least and the largest of 0 and every value of a floating-point tensor; NaN is both infinities."""
        return extremes(self, images, batch)
