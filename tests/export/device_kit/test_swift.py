"""The Swift sources: no compiler here, so they are parsed, and held to the Python side of the same contract."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from export.device_kit.device_report import device_report_schema
from validation.devices.units import Unit

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


def text_of(name: str) -> str:
    (path,) = (source for source in SOURCES if source.name == name)
    return path.read_text()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.name))
def test_a_source_parses(path: Path) -> None:
    assert broken_nodes(path.read_bytes()) == []


def test_the_parser_sees_a_missing_brace() -> None:
    assert broken_nodes(b"func f() { if x { }") != []


def test_there_is_a_package_with_sources_and_tests() -> None:
    names = {path.relative_to(FILES).as_posix() for path in SOURCES}
    assert {"Package.swift", "swift/Tests/DeviceKitTests/DeviceKitTests.swift"} <= names
    assert len([name for name in names if name.startswith("swift/Sources/DeviceKit/")]) >= 5
    for named in re.findall(r'"(swift/[^"]+|README.md|check_on_mac.py)"', text_of("Package.swift")):
        assert (FILES / named).exists(), named


def test_the_units_are_the_ones_that_attach_knows() -> None:
    assert re.findall(r'case \w+ = "([A-Z_]+)"', text_of("LoadedModel.swift")) == list(Unit)


def test_the_report_has_the_schemas_fields() -> None:
    schema: dict[str, Any] = device_report_schema()
    definitions = schema["$defs"]
    objects = [schema, definitions["ToolRecord"], definitions["DeviceRecord"]]
    objects += [definitions[name] for name in ("UnitReport", "JpegReport", "DeviceTiming", "ComputePlanRecord")]
    objects.append(definitions["CaseReport"])
    wanted = {name for one in objects for name in one["required"]}
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
