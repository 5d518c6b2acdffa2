"""A classifier that is cheap to make: the mean of each channel, as the logits of three classes."""

from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from efficientvit.images.preprocessing import Preprocessing
from efficientvit.size import square
from efficientvit.spec import model_spec
from runtimes.artifact import Artifact, Format, Interface, digest
from runtimes.openvino.package import import_openvino
from runtimes.registry import reader_of
from runtimes.wrapping import Answers, Feed, Wrapping

CLASSES = 3
SMALL = Preprocessing(image_size=square(64))


def network(folder: Path, file_format: Format, preprocessing: Preprocessing, batch: int | None) -> Artifact:
    """Its file, which takes normalized tensors."""
    size, count = preprocessing.image_size, "batch" if batch is None else batch
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["logits"], name="flat"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, size.nchw(count))
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (count, CLASSES))
    graph = helper.make_graph(nodes, "network", [image], [logits])
    path = folder / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    if file_format == Format.OPENVINO:
        openvino = import_openvino()
        openvino.save_model(openvino.convert_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
        path = path.with_suffix(".xml")
    model = model_spec("m0", square(64), CLASSES)
    return Artifact.on_disk(path, file_format, model, made_by="test", batch=batch)


def wrapped(inside: Artifact, feed: str, answers: str, folder: Path, preprocessing: Preprocessing = SMALL) -> Artifact:
    """The same with something around it, in `folder`."""
    wrapping = Wrapping(Feed.parse(feed), Answers.parse(answers), preprocessing)
    out = folder / f"wrapped{inside.path.suffix}"
    reader_of(inside).wrap(inside, wrapping, out)
    return replace(inside, path=out, sha256=digest(out), interface=Interface(wrapping=wrapping))
