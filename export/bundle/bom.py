"""A CycloneDX 1.6 ML-BOM: the models with their files and digests, the weights, and the tools that made them."""

import json
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from efficientvit.digests import digest_of
from export.bundle.contents import Contents, Packed
from export.bundle.records import IndexedFile
from export.folder.findings import nearest_of, unchecked
from export.folder.manifest import Manifest

if TYPE_CHECKING:
    from cyclonedx.model import HashType, Property
    from cyclonedx.model.component import Component

_PROPERTY = "vit-export"
_NAMESPACE = uuid.UUID("9b0f7a0e-1f0b-5f0e-9d44-6d1f3f5f7c21")
"""Of the serial numbers: the same bundle has the same one."""


def bom_of(contents: Contents) -> dict[str, Any]:
    """The document. It has no time in it: the same artifacts give the same bytes."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    licenses = [LicenseFactory().make_with_id(contents.license)] if contents.license else []
    release = Component(
        name=contents.name,
        version=contents.version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="release",
        licenses=licenses,
    )
    maker = Component(name="vit-export", version=contents.vit_export, type=ComponentType.APPLICATION)
    bom = Bom(metadata=BomMetaData(component=release), serial_number=_serial_number(contents))
    bom.metadata.tools.components.add(maker)
    tools = {(name, version): _tool(name, version) for name, version in sorted(_tools(contents))}
    weights = {each.manifest.weights.sha256: _weights(each.manifest) for each in contents.artifacts}
    models = [_model(each, contents.version) for each in contents.artifacts]
    for component in (*models, *weights.values(), *tools.values()):
        bom.components.add(component)
    bom.register_dependency(release, models)
    for each, model in zip(contents.artifacts, models, strict=True):
        used = [tools[tool] for tool in sorted(_used(each.manifest))]
        bom.register_dependency(model, [weights[each.manifest.weights.sha256], *used])
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]
    cards = {_ref(each): _model_card(each.manifest) for each in contents.artifacts}
    for component in document["components"]:  # the library has no model cards, the standard does
        if (card := cards.get(component.get("bom-ref"))) is not None:
            component["modelCard"] = card
    return document


def _serial_number(contents: Contents) -> uuid.UUID:
    files = digest_of((file.path, file.sha256) for file in contents.files)
    return uuid.uuid5(_NAMESPACE, f"{contents.name} {contents.version} {files}")


def _ref(packed: Packed) -> str:
    return f"artifact:{packed.name}"


def _tools(contents: Contents) -> set[tuple[str, str]]:
    """Everything that took part in any of the exports, as their manifests have it."""
    return {
        tool for each in contents.artifacts for tool in (*each.manifest.tools.items(), *_used(each.manifest))
    }  # fmt: skip


def _used(manifest: Manifest) -> set[tuple[str, str]]:
    """What made the files of this one."""
    return {tool for stage in manifest.stages if stage.artifact for tool in stage.artifact.tools.items()}


def _tool(name: str, version: str) -> "Component":
    from cyclonedx.model.component import Component, ComponentScope, ComponentType
    from packageurl import PackageURL

    purl = PackageURL("pypi", name=name.lower().replace("_", "-"), version=version)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"tool:{name}@{version}",
        scope=ComponentScope.EXCLUDED,  # it made the files, and is not in them
        purl=purl,
    )


def _weights(manifest: Manifest) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    weights = manifest.weights
    said = {"source": weights.source, "trained": str(weights.trained).lower(), "sha256": weights.sha256}
    return Component(
        name=f"weights of EfficientViT {manifest.model.name.upper()}",
        type=ComponentType.DATA,
        bom_ref=f"weights:{weights.sha256}",
        # Of seeded weights the digest is over names and values: there is no file.
        hashes=[_hash(weights.sha256)] if weights.trained else [],
        properties=_properties(said),
    )


def _model(packed: Packed, version: str) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    entry = packed.entry
    said = {
        "format": entry.format,
        "weights": entry.precision.weights,
        "activations": entry.precision.activations,
        "execution": entry.precision.execution,
        "sha256": entry.sha256,
        "status": entry.status,
        "evidence": str(entry.evidence),
    }
    files = [_file(file) for file in packed.files]
    return Component(
        name=packed.name,
        version=version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=_ref(packed),
        properties=_properties(said),
        components=files,
    )


def _file(file: IndexedFile) -> "Component":
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name=file.path, type=ComponentType.FILE, bom_ref=f"file:{file.path}", hashes=[_hash(file.sha256)]
    )  # fmt: skip


def _hash(sha256: str) -> "HashType":
    from cyclonedx.model import HashAlgorithm, HashType

    return HashType(alg=HashAlgorithm.SHA_256, content=sha256)


def _properties(said: dict[str, str]) -> "list[Property]":
    from cyclonedx.model import Property

    return [Property(name=f"{_PROPERTY}:{name}", value=value) for name, value in said.items()]


def _model_card(manifest: Manifest) -> dict[str, Any]:
    """https://cyclonedx.org/docs/1.6/json/#components_items_modelCard."""
    model = manifest.model
    task = {"logits": "image-classification", "embedding": "image-feature-extraction"}
    return {
        "modelParameters": {
            "task": task.get(model.head, "image-feature-extraction"),
            "architectureFamily": "EfficientViT",
            "modelArchitecture": f"efficientvit_{model.name}",
            "inputs": [{"format": _port(each.dtype, each.shape)} for each in model.inputs],
            "outputs": [{"format": _port(each.dtype, each.shape)} for each in model.outputs],
        },
        "quantitativeAnalysis": {"performanceMetrics": list(_metrics(manifest))},
        "considerations": {"technicalLimitations": [f"Not checked: {each}" for each in unchecked(manifest)]},
    }


def _port(dtype: str, shape: list[int | str]) -> str:
    return f"{dtype} {' x '.join(map(str, shape))}".rstrip()


def _metrics(manifest: Manifest) -> Iterator[dict[str, Any]]:
    if (error := nearest_of(manifest)) is not None:
        yield {"type": f"worst relative error against PyTorch, {error.gate} gate", "value": f"{error.worst:.3e}"}
        yield {"type": f"budget of the {error.gate} gate", "value": f"{error.budget:.3e}"}
    if (accuracy := manifest.accuracy) is not None:
        low, high = (f"{each:.2f}" for each in accuracy.interval_points)
        images = f"{accuracy.images} labeled images of {accuracy.folder}"
        yield {"type": "top-1 accuracy", "value": f"{accuracy.artifact.top1:.4f}", "slice": images}
        yield {
            "type": "top-1 lost against PyTorch, percentage points",
            "value": f"{accuracy.drop_points:.2f}",
            "slice": images,
            "confidenceInterval": {"lowerBound": low, "upperBound": high},
        }
