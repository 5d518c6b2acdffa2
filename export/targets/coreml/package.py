"""A saved Core ML package, edited: labels, what it says of itself, and the same bytes for the same content.

coremltools converts a classifier only with the probabilities as its one output; here the logits stay one too, so that
a check can compare them. Its own `classify` operation is therefore appended to the saved program.
"""

import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from efficientvit.head import STAGES, HeadKind
from efficientvit.spec import STEM_STRIDE
from runtimes.artifact import Interface
from runtimes.coreml.mlpackage import load_model
from runtimes.interface import INPUT, LABEL, METADATA_PREFIX, OUTPUT, PROBABILITIES

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")

_NAMESPACE = uuid.UUID("5c5f9d9e-0a52-5c0b-9d4e-3d5b6f7e8a90")
_DEBUG_HANDLES = "executorch_debug_handle_mapping.json"  # written for a debugger of ExecuTorch; no part of a package
_TENSOR_PROBABILITIES = f"{PROBABILITIES}_tensor"


def write_model(package: Path, model: Any) -> None:
    """Put the protobuf back, its maps in a fixed order: left alone, their order differs from process to process."""
    (package / MODEL).write_bytes(model.SerializeToString(deterministic=True))


def add_classifier(package: Path, labels: Sequence[str]) -> None:
    """Turn the program's tensor of probabilities into Core ML's label and dictionary of probabilities."""
    model = load_model(package)
    (function,) = model.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    for operation in block.operations:
        for output in operation.outputs:
            if output.name == PROBABILITIES:  # the name is the dictionary's from now on
                output.name = _TENSOR_PROBABILITIES
    classify = block.operations.add(type="classify")
    classify.inputs["probabilities"].arguments.add(name=_TENSOR_PROBABILITIES)
    _write_strings(classify.inputs["classes"].arguments.add().value, labels)
    label, probabilities = classify.outputs.add(name=LABEL), classify.outputs.add(name=PROBABILITIES)
    _string(label.type)
    _string(probabilities.type.dictionaryType.keyType)
    probabilities.type.dictionaryType.valueType.tensorType.dataType = _number("FLOAT64")
    _write_string(classify.attributes["name"], "classify")
    block.outputs[:] = [OUTPUT, LABEL, PROBABILITIES]
    _describe_classifier(model.description)
    write_model(package, model)


def without_classifier(package: Path) -> None:
    """Undo `add_classifier`: coremltools cannot read its own `classify` operation back."""
    model = load_model(package)
    (function,) = model.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    assert block.operations[-1].type == "classify"
    del block.operations[-1]
    block.outputs[:] = [OUTPUT, _TENSOR_PROBABILITIES]
    description = model.description
    (logits,) = [output for output in description.output if output.name == OUTPUT]
    kept = logits.SerializeToString(deterministic=True)
    del description.output[:]
    for name in block.outputs:
        description.output.add().ParseFromString(kept)
        description.output[-1].name = name
    description.predictedFeatureName = description.predictedProbabilitiesName = ""
    write_model(package, model)


def _describe_classifier(description: Any) -> None:
    (logits,) = [output for output in description.output if output.name == OUTPUT]
    kept = logits.SerializeToString(deterministic=True)
    del description.output[:]
    description.output.add().ParseFromString(kept)
    description.output.add(name=LABEL).type.stringType.SetInParent()
    description.output.add(name=PROBABILITIES).type.dictionaryType.stringKeyType.SetInParent()
    description.predictedFeatureName = LABEL
    description.predictedProbabilitiesName = PROBABILITIES


def _number(dtype: str) -> int:
    from coremltools.proto import MIL_pb2

    number: int = MIL_pb2.DataType.Value(dtype)
    return number


def _string(kind: Any) -> None:
    kind.tensorType.dataType = _number("STRING")


def _write_string(value: Any, text: str) -> None:
    _string(value.type)
    value.immediateValue.tensor.strings.values.append(text)


def _write_strings(value: Any, texts: Sequence[str]) -> None:
    _string(value.type.listType.type)
    value.type.listType.length.constant.size = len(texts)
    for text in texts:
        _write_string(value.immediateValue.list.values.add(), text)


def save(made: Any, package: Path, interface: Interface) -> None:
    """Write coremltools' model to `package`, a classifier where there are labels, and remove coremltools' own copy."""
    made.save(str(package))
    shutil.rmtree(made.package_path)  # it would lie among the temporary files until the process ends
    if interface.labels:
        add_classifier(package, interface.labels)
    finish(package, interface)


def finish(package: Path, interface: Interface) -> None:
    """Describe inputs and outputs, write the metadata, and drop whatever differs from run to run."""
    model = load_model(package)
    _write_metadata(model.description.metadata, dict(interface.metadata))
    texts = _descriptions(interface)
    for feature in (*model.description.input, *model.description.output):
        feature.shortDescription = texts[feature.name]
    write_model(package, model)
    (package / _DEBUG_HANDLES).unlink(missing_ok=True)
    _name_by_content(package / "Manifest.json")


def _write_metadata(metadata: Any, said: dict[str, str]) -> None:
    metadata.author = said.pop("author", "")
    metadata.license = said.pop("license", "")
    metadata.versionString = said.pop("version", "")
    metadata.shortDescription = said.pop("description", "")
    # coremltools' own entries stay, but for the day: it would make another package of the same input.
    metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    assert all(key.startswith(METADATA_PREFIX) for key in said)
    for key, value in said.items():
        metadata.userDefined[key] = value


def _descriptions(interface: Interface) -> dict[str, str]:
    # Part of what ships, and so spelled as in the packages that are out already.
    image = "RGB image, resized and cropped as the preprocessing in the metadata says; normalised by the model itself"
    tensor = "(pixel / 255 - mean) / std, RGB, channels first, as the preprocessing in the metadata says"
    return {
        INPUT: image if interface.image_input else tensor,
        OUTPUT: "Scores of the classes before the softmax",
        LABEL: "The most probable class",
        PROBABILITIES: "The probability of each class by its label",
        str(HeadKind.EMBEDDING): "The last stage's map, averaged over the grid",
        **{f"stage{n}": f"The map of stage {n}, {STEM_STRIDE << n - 1} pixels of the image a cell" for n in STAGES},
    }


def _name_by_content(path: Path) -> None:
    """Give the manifest's entries names that come from their paths in place of random ones."""
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    entries = manifest["itemInfoEntries"]
    named = {key: str(uuid.uuid5(_NAMESPACE, entry["path"])).upper() for key, entry in entries.items()}
    manifest["itemInfoEntries"] = {
        named[key]: entry for key, entry in sorted(entries.items(), key=lambda item: item[1]["path"])
    }
    manifest["rootModelIdentifier"] = named[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", encoding="utf-8")
