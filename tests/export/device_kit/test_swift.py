"""The Swift sources: no compiler here, so they are parsed, and held to the Python side of the same contract."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from export.device_kit.device_report import device_report_schema
from export.device_kit.formats import FORMS
from runtimes.artifact import Format
from validation.devices.units import CoreAiUnit, Unit

ROOT = Path(__file__).parents[3]
FILES = ROOT / "export" / "device_kit" / "on_device"
SOURCES = sorted(FILES.rglob("*.swift"))


def broken_nodes(source: bytes) -> list[str]:
    """What the grammar cannot read, by line."""
    tree_sitter = pytest.importorskip("tree_sitter")
    swift = pytest.importorskip("tree_sitter_swift")
    root = tree_sitter.Parser(tree_sitter.Language(swift.language())).parse(source).root_node
    found, open_nodes = [], [root]
    while open_nodes:
        node = open_nodes.pop()
        if node.type == "ERROR" or node.is_missing:
            found.append(f"line {node.start_point[0] + 1}: {node.type}")
        open_nodes.extend(node.children)
    return found


def text_of(name: str, own: str = "") -> str:
    """Of the file of this name among what is shared, or with `own` among the sources of one format."""
    (path,) = (source for source in SOURCES if source.name == name and (not own or own in source.parts))
    return path.read_text()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(FILES).as_posix())
def test_a_source_parses(path: Path) -> None:
    assert broken_nodes(path.read_bytes()) == []


def test_the_parser_sees_a_missing_brace() -> None:
    assert broken_nodes(b"func f() { if x { }") != []


def kit_of(file_format: Format) -> set[str]:
    """The paths that a kit of the format has, folders of sources included."""
    found = set()
    for source, name in FORMS[file_format].files.items():
        inside = (FILES / source).rglob("*") if (FILES / source).is_dir() else ()
        found |= {name, *(f"{name}/{path.relative_to(FILES / source).as_posix()}" for path in inside)}
    return found | {str(parent) for name in found for parent in Path(name).parents}


@pytest.mark.parametrize("own", [Format.COREML, Format.COREAI])
def test_a_package_names_what_its_kit_has(own: Format) -> None:
    kit = kit_of(own)
    assert {"Package.swift", "swift/Tests/DeviceKitTests/DeviceKitTests.swift"} <= kit
    assert len([name for name in kit if name.startswith("swift/Sources/DeviceKit/")]) >= 7
    named = re.findall(r'"(swift/[^"]+|[^"]+\.(?:md|py))"', text_of("Package.swift", own))
    assert len(named) >= 5
    assert set(named) <= kit
    # What is no source and not excluded is a warning of the package manager's.
    scripts = {name for name in kit if name.endswith((".md", ".py"))}
    assert scripts <= set(named)


@pytest.mark.parametrize("own", [Format.COREML, Format.COREAI])
def test_every_format_has_what_the_shared_sources_call(own: Format) -> None:
    loaded = text_of("LoadedModel.swift", own)
    for wanted in (
        r"let framework = \"Core (ML|AI)\"",
        r"func prepare\(_ folder: KitFolder\) throws -> URL",
        r"init\(kit: Kit, prepared: URL, unit: ComputeUnit\) async throws",
        r"func feed\(_ raw: Data\) throws",
        r"func logits\(_ \w+: \w+\) (async )?throws -> \[Float\]",
        r"func once\(_ \w+: \w+\) (async )?throws -> Int",
        r"func picture\(_ folder: KitFolder\) throws -> PictureReport\?",
        r"func describe\(_ result: inout UnitReport\) async",
        r"static var available: \[ComputeUnit\]",
    ):
        assert re.search(wanted, loaded), wanted


def test_the_units_are_the_ones_that_attach_knows() -> None:
    named = r'case \w+ = "(\w+)"'
    assert re.findall(named, text_of("LoadedModel.swift", Format.COREML)) == list(Unit)
    assert re.findall(named, text_of("LoadedModel.swift", Format.COREAI)) == list(CoreAiUnit)


def test_the_report_has_the_schemas_fields() -> None:
    schema: dict[str, Any] = device_report_schema()
    definitions = schema["$defs"]
    objects = [schema, definitions["ToolRecord"], definitions["DeviceRecord"]]
    objects += [definitions[name] for name in ("UnitReport", "JpegReport", "DeviceTiming", "ComputePlanRecord")]
    objects += [definitions["CaseReport"], definitions["SpecializationRecord"]]
    wanted = {name for one in objects for name in one["required"]} | {"specialization"}
    report = text_of("Report.swift")
    # A property is its own key unless the coding keys rename it.
    renamed = dict(re.findall(r'case (\w+) = "(\w+)"', report))
    properties = re.findall(r"public (?:let|var) (\w+): (?!Bool|URL|Report\b)", report)
    assert {renamed.get(name, name) for name in properties} == wanted
    assert re.search(r"enum Status: String, Codable \{([^}]+)\}", report)
    states = re.findall(r"case (\w+)$", re.findall(r"enum Status[^}]+", report)[0], re.MULTILINE)
    assert sorted(states) == definitions["UnitReport"]["properties"]["status"]["enum"]


def test_an_absent_value_is_written_as_null() -> None:
    """Swift's own encoding leaves such keys out, and `attach` takes no report with keys missing."""
    report = text_of("Report.swift")
    assert "encodeIfPresent" not in report
    for owner in re.split(r"\n(?=    public struct|public struct)", report):
        if re.search(r"(?:let|var) \w+: \w+\?", owner) and "Codable" in owner:
            assert "func encode(to encoder: Encoder)" in owner, owner.splitlines()[0]


def test_every_key_of_the_kit_that_swift_reads_is_written(folder: Path) -> None:
    kit = json.loads((folder / "kit" / "data" / "kit.json").read_text())
    read = text_of("Kit.swift")
    renamed = dict(re.findall(r'case (\w+) = "(\w+)"', read))
    nested = {"Package": "package", "Model": "model", "Input": "input", "Output": "output", "Plan": "timing",
              "Preprocessing": "preprocessing"}  # fmt: skip
    for name, key in nested.items():
        body = re.findall(rf"public struct {name}: Decodable \{{(.*?)\n    \}}", read, re.DOTALL)[0]
        properties = {renamed.get(found, found) for found in re.findall(r"public let (\w+):", body)}
        assert properties
        assert properties <= set(kit[key]), name
    case = re.findall(r"public struct Case: Decodable \{(.*?)\n    \}", read, re.DOTALL)[0]
    assert set(re.findall(r"public let (\w+):", case)) == set(kit["cases"][0])
