"""The IR of an ONNX file."""

import re
from pathlib import Path

from efficientvit.digests import file_digest
from export.targets.openvino.convert import to_openvino
from runtimes.artifact import Artifact
from runtimes.openvino.package import import_openvino
from runtimes.precision import Precision


def test_the_bytes_do_not_depend_on_what_was_converted_before(float_onnx: Artifact, tmp_path: Path) -> None:
    """OpenVINO names what has no name by a counter of the process, which goes on."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(to_openvino(float_onnx, tmp_path / name / "model.xml", Precision()))
    first, second = ([file_digest(each.path.with_suffix(end)) for end in (".xml", ".bin")] for each in made)
    assert first == second
    operations = import_openvino().Core().read_model(made[0].path).get_ops()
    numbered = [name for each in operations if re.fullmatch(r"Reshape_\d+", name := each.get_friendly_name())]
    assert sorted(numbered, key=lambda name: int(name.split("_")[1])) == [f"Reshape_{n}" for n in range(len(numbered))]
    assert numbered
