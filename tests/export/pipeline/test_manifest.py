"""Manifests are what the schema in the repository says, whatever came of the export."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from efficientvit.size import square
from export.cache.store import default_cache
from export.folder.schema import manifest_schema
from export.request.request import Request
from export.targets.registry import BUILT_IN as BUILT_IN_TARGETS
from export.targets.registry import section_types
from runtimes.artifact import Format
from runtimes.precision import Dtype
from runtimes.registry import BUILT_IN
from tests.running import run_request
from tests.stages import STAGES
from validation.devices.units import CoreAiUnit, EngineUnit, Unit
from validation.gates import table

ROOT = Path(__file__).parents[3]
SCHEMA = manifest_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def _manifest(folder: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text(), parse_constant=refuse)
    return content


def _undescribed(node: Any, place: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        fields = node.get("properties", {})
        yield from (f"{place}/{name}" for name, field in fields.items() if "description" not in field)
        for name, item in node.items():
            if name not in ("if", "then", "else"):  # conditions on fields that are described elsewhere
                yield from _undescribed(item, f"{place}/{name}")
    elif isinstance(node, list):
        for item in node:
            yield from _undescribed(item, place)


def _paths(manifest: dict[str, Any]) -> set[str]:
    """Every path."""
    made = [stage["artifact"] for stage in manifest["stages"] if stage["artifact"] is not None]
    named = [manifest["artifact"], manifest["golden"]["path"], (manifest["reference"] or {}).get("path")]
    named += [manifest["settings"]["shipped"]["path"]] if manifest["settings"] else []
    return {path for path in (*named, *(artifact["path"] for artifact in made)) if path is not None}


def test_the_schema_is_one_and_describes_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert list(_undescribed(SCHEMA)) == []


def _choices(node: Any, name: str) -> Iterator[set[Any]]:
    """What the schema lets a field of this name be, wherever it occurs."""
    if isinstance(node, dict):
        if isinstance(field := node.get("properties", {}).get(name), dict) and "enum" in field:
            yield set(field["enum"]) - {None}
        for item in node.values():
            yield from _choices(item, name)
    elif isinstance(node, list):
        for item in node:
            yield from _choices(item, name)


def test_the_schema_knows_every_format_dtype_gate_and_unit() -> None:
    assert list(_choices(SCHEMA, "format")) == [set(BUILT_IN) - {Format.TORCH}]
    assert list(_choices(SCHEMA, "weights")) == [set(Dtype) - {Dtype.UINT8, Dtype.SYMMETRIC8}]
    arithmetic = {Dtype.FP32, Dtype.FP16, Dtype.BF16, Dtype.INT8}
    assert list(_choices(SCHEMA, "activations")) == [arithmetic | {Dtype.UINT8, Dtype.SYMMETRIC8}]
    assert list(_choices(SCHEMA, "execution")) == [arithmetic]
    gates = SCHEMA["$defs"]["VerdictRecord"]["properties"]["gates"]
    assert gates["required"] == list(gates["properties"]) == list(table.names())
    assert list(_choices(SCHEMA["$defs"]["DeviceEntry"], "unit")) == [{*Unit, *EngineUnit, *CoreAiUnit}]
    stages = SCHEMA["$defs"]["StageRecord"]["properties"]["name"]["description"]
    assert not [name for name in STAGES if name not in stages]


def _named_in_the_document(pattern: str) -> set[str]:
    document = re.sub(r"```.*?```", "", (ROOT / "docs" / "manifest.md").read_text(), flags=re.DOTALL)
    return {word for text in re.findall(pattern, document, re.MULTILINE) for word in re.findall(r"\w+", text)}


def test_the_document_names_the_fields_and_no_others() -> None:
    """Down to those of the sections; of what lies deeper the schema tells."""
    sections = ("Model", "Weights", "SelfCheck", "Preprocessing", "Precision", "Golden", "Host", "Settings", "Stage",
                "Artifact", "Failed", "Accuracy", "Timing")  # fmt: skip
    definitions = SCHEMA["$defs"]
    records = [SCHEMA, *(definitions[f"{name}Record"] for name in sections)]
    records.append(definitions["DeviceEntry"])
    fields = {field for record in records for field in record["properties"]}
    for name, section in section_types(BUILT_IN_TARGETS).items():
        assert section is not None
        fields |= {name, *(field.name for field in msgspec.structs.fields(section))}
    assert fields <= _named_in_the_document(r"`([^`]+)`")
    every = {field for record in (SCHEMA, *definitions.values()) for field in record.get("properties", {})}
    assert _named_in_the_document(r"^\| (`[^|]+) \|") <= every | fields


def test_an_unknown_or_missing_field_is_refused(exported: Any) -> None:
    manifest = _manifest(next(exported.out.iterdir()))
    for spoiled in ({**manifest, "surplus": 1}, {k: v for k, v in manifest.items() if k != "golden"}):
        assert not VALIDATOR.is_valid(spoiled)


def test_verified_and_not_run(exported: Any) -> None:
    for folder in exported.out.iterdir():
        manifest = _manifest(folder)
        VALIDATOR.validate(manifest)
        manifest.pop("command")
        assert not [text for text in _strings(manifest) if text.startswith("/")]
        assert all((folder / path).exists() for path in {*_paths(manifest), manifest["artifact"]})


def test_built(exported: Any, exported_int8: Any) -> None:
    for manifest in (
        exported.manifest("m0-64-tensorrt-fp16-untrained"),
        exported_int8.manifest("m0-64-tensorrt-int8-sm89-untrained"),
    ):
        VALIDATOR.validate(manifest)
        parsed, engine = manifest["stages"][-2:]
        assert (manifest["status"], manifest["exit_code"], engine["verdict"]["status"]) == ("built", 0, "built")
        assert (parsed["verdict"]["status"], engine["verdict"]["evidence"]) == ("verified", "reference")
        assert engine["artifact"]["source_sha256"] == parsed["artifact"]["sha256"]
        assert engine["verdict"]["reason"]
        assert "its kit" in engine["verdict"]["remedy"]
        assert manifest["tensorrt"]["built_with"]["product"] == "tensorrt-rtx"
        assert (manifest["calibration"] is None) is (manifest["precision"]["activations"] != "int8")
        assert manifest["timing"]["measured"] is False
    (_, quantize, quantized, _) = manifest["stages"][-4:]
    assert quantize["verdict"]["gates"]["ranges"]["passed"]
    assert quantized["verdict"]["gates"]["execution"]["passed"]
    assert quantized["verdict"]["gates"]["precision"] is None


@pytest.mark.parametrize("status", ["rejected", "failed"])
def test_rejected_and_failed(status: str, tmp_path: Path) -> None:
    def spoiled(shop: Any, job: Any, precision: Any, source: Any) -> Any:
        import onnx

        artifact = STAGES["trace"](shop, job, precision, source)
        if status == "failed":
            raise OSError(f"the converter could not read {artifact.path}")
        model = onnx.load(artifact.path)
        for tensor in model.graph.initializer:
            if tensor.name == "head.linear.bias":
                tensor.raw_data = b"\x00\x00\xc0\x7f" * 1000  # NaN
        onnx.save(model, artifact.path)
        return type(artifact).on_disk(artifact.path, artifact.format, artifact.model, made_by="trace")

    request = Request(("m0",), ("onnx",), weights="seeded", image_size=square(64), out=tmp_path, time=False)
    (outcome,) = run_request(request, stages={**STAGES, "trace": spoiled})
    assert outcome.folder is not None
    assert outcome.folder.name.endswith(f".{status}")
    manifest = _manifest(outcome.folder)
    VALIDATOR.validate(manifest)
    assert (manifest["status"], manifest["artifact"]) == (status, None)
    assert "/tmp" not in json.dumps(manifest["failed"])
    assert not [path for path in _paths(manifest) if path.startswith("/") or not (outcome.folder / path).exists()]
    if status == "rejected":
        assert manifest["stages"][-1]["verdict"]["gates"]["precision"]["worst"] == "nan"


def test_timed(tmp_path: Path) -> None:
    request = Request(("m0",), ("onnx",), weights="seeded", image_size=square(64), out=tmp_path)
    (outcome,) = run_request(request, cache=default_cache())
    assert outcome.folder is not None
    manifest = _manifest(outcome.folder)
    VALIDATOR.validate(manifest)
    assert len(manifest["timing"]["samples_ns"]) >= 30
    assert manifest["timing"]["effective"]["threads"] == 1
