"""JSON Schemas (draft 2020-12) of the documents that are made of records, generated from their types."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from export.folder.manifest import Manifest
from export.records import Record
from runtimes.artifact import Format
from runtimes.registry import format_names
from validation.gates.table import GATES


def schema_of(record: type[Record], title: str, *, reading: bool = False) -> dict[str, Any]:
    """The schema of a document as it is written: no unknown fields, and every field.

    `reading`: of one that an earlier version may have written, without the fields that were added since.
    """
    (top,), parts = msgspec.json.schema_components([record], ref_template="#/$defs/{name}")
    for part in parts.values():
        earlier = list(part.get("required", ()))
        _written(part)
        if reading and "required" in part:
            part["required"] = earlier
            part.get("properties", {}).get("gates", {}).pop("required", None)
    own = parts.pop(top["$ref"].rpartition("/")[2])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **own,
        "title": title,
        "$defs": dict(sorted(parts.items())),
    }


def _written(part: dict[str, Any]) -> None:
    """As it is written: a field that has a default is there too; what has none is left out where it says nothing."""
    fields = part.get("properties")
    if fields is None:
        return
    required = set(part.get("required", ()))
    part["required"] = [name for name, field in fields.items() if name in required or _is_written(field)]
    part["additionalProperties"] = False
    for field in fields.values():
        field.pop("default", None)
    if "measured" in fields:
        part["if"] = {"properties": {"measured": {"const": True}}}
        part["then"] = {"required": list(fields), "properties": {"reason": {"type": "null"}}}
        part["else"] = {"maxProperties": 2, "properties": {"reason": {"type": "string"}}}
    if "gates" in fields:
        known = fields["gates"].pop("additionalProperties")
        says = {gate.name: gate.title for gate in GATES}
        fields["gates"] |= {
            "properties": {gate: {"description": said, **known} for gate, said in says.items()},
            "required": list(says),
            "additionalProperties": False,
        }


def _is_written(field: dict[str, Any]) -> bool:
    """A field with a default always is, but for those that say otherwise."""
    return "default" in field and not field.pop("optional", False)


def manifest_schema(sections: Mapping[str, type] = MappingProxyType({}), *, reading: bool = False) -> dict[str, Any]:
    """Of manifest.json. `sections`: those of targets, by target, beside the fields of `Manifest`. `reading`: above.

    Raises:
        StageFailed: an installed package adds a format that exists already.
    """
    found = schema_of(Manifest, "vit-export manifest", reading=reading)
    # A stage makes every kind of file but PyTorch's, which only `bench` runs.
    made = [str(each) for each in format_names() if each != Format.TORCH]
    found["$defs"]["ArtifactRecord"]["properties"]["format"]["enum"] = made
    for name, section in sections.items():
        if name not in found["properties"]:
            place = f"#/properties/{name}/$defs/{{name}}"
            (own,), parts = msgspec.json.schema_components([section], ref_template=place)
            found["properties"][name] = {"description": f"What target {name} records.", **own, "$defs": parts}
    return found
