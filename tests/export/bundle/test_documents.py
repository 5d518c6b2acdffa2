"""The documents of a bundle are what the tools that they are for take: CycloneDX, in-toto, Hugging Face."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format

from export.bundle.bom import bom_of
from export.bundle.card import card_of
from export.bundle.check import check_bundle
from export.bundle.contents import Contents, Packed
from export.bundle.layout import BOM, CARD, INDEX, SIGNATURE, STATEMENT
from export.bundle.records import Index, index_schema
from export.bundle.signature import Trust
from export.bundle.statement import statement_of
from export.exits import Exit
from export.folder.accuracy import AccuracyRecord, TopRecord
from export.folder.exported import read_manifest
from runtimes.runtime import Evidence
from tests.export.bundle.conftest import COREML, NAMES, ONNX

ACCURACY = AccuracyRecord(
    folder="val|<b>", images=500, matched_by="label", skipped=[], reference=TopRecord(top1=0.81, top5=0.95),
    artifact=TopRecord(top1=0.806, top5=0.95), agree=497, lost=3, gained=1, drop_points=0.4,
    interval_points=(-0.3, 1.1), confidence_percent=99.0, budget_points=0.5, evidence=Evidence.NATIVE, flips=[],
)  # fmt: skip


@pytest.fixture(scope="module")
def contents(folders: list[Path]) -> Contents:
    """One artifact whose accuracy was measured, of trained weights, and one that neither is of."""
    manifests = {folder.name: read_manifest(folder) for folder in folders}
    onnx, coreml = manifests[ONNX], manifests[COREML]
    trained = msgspec.structs.replace(onnx.weights, trained=True, source="best.pth")
    onnx = msgspec.structs.replace(onnx, accuracy=ACCURACY, weights=trained)
    return Contents("effvit", "1.0", "Apache-2.0", "0.1.0", (Packed(COREML, coreml, ()), Packed(ONNX, onnx, ())))


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_the_bom_is_valid_cyclonedx(signed_once: Path, contents: Contents) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for text in ((signed_once / BOM).read_text(encoding="utf-8"), json.dumps(bom_of(contents))):
        assert validator.validate_str(text) is None
    broken = bom_of(contents)
    broken["components"][0]["type"] = "model"
    assert validator.validate_str(json.dumps(broken)) is not None


def test_the_bom_has_models_files_weights_and_tools(signed_once: Path) -> None:
    bom, index = read(signed_once, BOM), read(signed_once, INDEX)
    kinds = {each["bom-ref"]: each for each in bom["components"]}
    files = {file["name"]: file["hashes"][0]["content"] for each in bom["components"]
             for file in each.get("components", ())}  # fmt: skip
    listed = {file["path"]: file["sha256"] for file in index["files"]}
    assert files == {path: digest for path, digest in listed.items() if path.startswith("artifacts/")}
    assert {ref for ref in kinds if ref.startswith("artifact:")} == {f"artifact:{name}" for name in NAMES}
    tools = read(signed_once, f"artifacts/{ONNX}/manifest.json")["tools"]
    assert {f"tool:{name}@{version}" for name, version in tools.items()} <= kinds.keys()
    needs = {each["ref"]: each.get("dependsOn", []) for each in bom["dependencies"]}
    assert {f"artifact:{name}" for name in NAMES} == set(needs["release"])
    assert any(ref.startswith("tool:onnx@") for ref in needs[f"artifact:{ONNX}"])
    assert any(ref.startswith("weights:") for ref in needs[f"artifact:{ONNX}"])
    assert "timestamp" not in bom["metadata"]


def test_the_boms_model_card_has_error_budget_and_accuracy(contents: Contents) -> None:
    cards = {each["name"]: each["modelCard"] for each in bom_of(contents)["components"] if "modelCard" in each}
    metrics = {each["type"]: each for each in cards[ONNX]["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics["top-1 accuracy"]["value"] == "0.8060"
    assert metrics["top-1 lost against PyTorch, percentage points"]["confidenceInterval"] == {
        "lowerBound": "-0.30", "upperBound": "1.10",
    }  # fmt: skip
    assert "Not checked: No device has run it" in cards[COREML]["considerations"]["technicalLimitations"]


def test_the_statement_is_valid_in_toto(signed_once: Path) -> None:
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as Message

    said = read(signed_once, STATEMENT)
    Statement.copy_from_pb(json_format.ParseDict(said, Message())).validate()
    listed = {file["path"]: file["sha256"] for file in read(signed_once, INDEX)["files"]}
    subjects = {each["name"]: each["digest"]["sha256"] for each in said["subject"]}
    assert subjects == {path: digest for path, digest in listed.items() if path.startswith("artifacts/")}
    verdicts = {each["name"]: each for each in said["predicate"]["artifacts"]}
    gates = read(signed_once, f"artifacts/{ONNX}/manifest.json")["stages"][-1]["verdict"]["gates"]
    assert verdicts[ONNX]["gates"]["precision"]["worst"] == gates["precision"]["worst"]
    assert verdicts[ONNX]["gates"].keys() == {name for name, gate in gates.items() if gate}


def test_the_statement_has_the_accuracy(contents: Contents) -> None:
    verdicts = {each.name: each for each in statement_of(contents).predicate.artifacts}
    assert verdicts[COREML].accuracy is None
    assert verdicts[ONNX].to_json()["accuracy"] == {
        "images": 500, "reference_top1": 0.81, "artifact_top1": 0.806, "drop_points": 0.4, "budget_points": 0.5,
    }  # fmt: skip


def test_the_card_is_one_of_hugging_face(signed_once: Path, contents: Contents) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(signed_once / CARD)
    assert card.data.license == "mit"
    assert card.data.pipeline_tag == "image-classification"
    assert {"efficientvit", "onnx", "openvino", "coreml"} <= set(card.data.tags or ())
    assert "**Untrained weights**: for trying the pipeline" in card.text
    measured = ModelCard(card_of(contents))
    (result,) = vars(measured.data)["eval_results"]
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("accuracy", 0.806, "val|<b>")
    assert f"**Untrained weights** (`{COREML}`)" in measured.text


def test_the_card_says_what_passed_what_was_lost_and_what_was_not_checked(contents: Contents) -> None:
    text = card_of(contents)
    (row,) = (line for line in text.splitlines() if line.startswith(f"| `{ONNX}` | onnx"))
    assert "| verified | native |" in row
    assert f"| `{ONNX}` | 500 of val\\|\\<b\\> | 81.00 | 80.60 | 0.40 (-0.30 to 1.10) | 0.50 |" in text
    assert f"- No device has run it (`{COREML}`)" in text
    assert "- Photos: none were given\n" in text
    assert "`best.pth`" in text


def test_the_index_is_of_its_schema(signed_once: Path) -> None:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(index_schema())
    index = read(signed_once, INDEX)
    validator.validate(index)
    assert msgspec.convert(index, Index).to_json() == index
    assert not validator.is_valid({**index, "extra": 1})
    assert not validator.is_valid({name: value for name, value in index.items() if name != "license"})


def test_the_command_prints_the_schema(command: Any) -> None:
    assert json.loads(command("schema", "bundle").out) == index_schema()


def test_a_bundle_of_another_version_is_compared_as_far_as_that_goes(unsigned: Path) -> None:
    index = read(unsigned, INDEX)
    index["vit_export"] = "0.0.9"
    (unsigned / INDEX).write_text(json.dumps(index), encoding="utf-8")
    checked = check_bundle(unsigned, Trust(), allow_unsigned=True)
    assert checked.code is Exit.OK
    assert [note.partition(" was not compared")[0] for note in checked.notes] == [CARD, BOM]
    assert not (unsigned / SIGNATURE).exists()
