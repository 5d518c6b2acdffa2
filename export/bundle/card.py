"""The model card: README.md as Hugging Face reads it."""

from collections.abc import Iterator

from export.bundle.contents import Contents, Packed
from export.bundle.layout import BOM, INDEX, STATEMENT
from export.folder.findings import nearest_of, unchecked
from export.folder.manifest import Manifest
from export.folder.records import PortRecord
from export.report.markdown import bullets, code, table, text


def card_of(contents: Contents) -> str:
    """YAML that the Hub reads, then what people read."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=accuracy.folder,
            dataset_name=accuracy.folder,
            metric_type="accuracy",
            metric_name=f"top-1, {each.name}",
            metric_value=round(accuracy.artifact.top1, 6),
        )
        for each in contents.artifacts
        if (accuracy := each.manifest.accuracy) is not None
    ]
    formats = sorted({each.entry.format for each in contents.artifacts})
    classifies = any(each.manifest.model.head == "logits" for each in contents.artifacts)
    data = ModelCardData(
        license=contents.license.lower() if contents.license else None,
        pipeline_tag="image-classification" if classifies else "image-feature-extraction",
        tags=["efficientvit", "vision", *formats],
        model_name=f"{contents.name} {contents.version}",
        eval_results=results or None,
    )
    body = "\n".join(_body(contents))
    return f"{ModelCard(f'---{chr(10)}{data.to_yaml()}{chr(10)}---{chr(10)}{chr(10)}{body}')}\n"


def _body(contents: Contents) -> Iterator[str]:
    models = sorted({each.manifest.model.name.upper() for each in contents.artifacts})
    by = sorted({each.manifest.vit_export for each in contents.artifacts})
    yield f"# {text(contents.name)} {text(contents.version)}"
    yield ""
    yield (
        f"EfficientViT {', '.join(models)} (Liu et al., CVPR 2023), exported from PyTorch. Every artifact was compared "
        f"with the PyTorch model by vit-export {', '.join(by)} and passed."
    )
    yield ""
    if untrained := [each.name for each in contents.artifacts if not each.manifest.weights.trained]:
        which = "" if len(untrained) == len(contents.artifacts) else f" ({', '.join(map(code, untrained))})"
        yield f"> **Untrained weights**{which}: for trying the pipeline, not for release."
        yield ""
    yield "## Artifacts"
    yield ""
    headings = ("artifact", "format", "weights", "computes in", "MB:", "verdict", "evidence", "error of its budget")
    yield from table(headings, map(_row, contents.artifacts))
    yield ""
    yield (
        "Evidence is *native* where the format's own runtime ran the file, *vendor* where its vendor's runtime did on "
        "another kind of host than the device, *reference* where an evaluator interpreted it. A *built* engine was not "
        "run; the network that it was built from passed."
    )
    yield from _section("Use", _use(contents))
    yield from _section("Accuracy", _accuracy(contents))
    yield from _section("What was not checked", _not_checked(contents))
    yield from _section("Origin", _origin(contents))
    yield from _section("Check this bundle", _check(contents))


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "", *lines)


def _row(packed: Packed) -> tuple[str, ...]:
    entry, error = packed.entry, nearest_of(packed.manifest)
    return (
        code(packed.name),
        entry.format,
        str(entry.precision.weights),
        str(entry.precision.execution),
        f"{entry.bytes / 1e6:.2f}",
        entry.status,
        str(entry.evidence),
        "not run" if error is None else str(error),
    )


def _use(contents: Contents) -> Iterator[str]:
    yield (
        "Ship what lies in an artifact's `ship/`, and apply its `runtime-settings.json`: the verdict holds under those "
        "settings. Prepare images as below; an input called `image` of 8 bits is normalized by the file itself."
    )
    yield ""
    rows = [
        (code(each.name), _ports(each.manifest.model.inputs), _ports(each.manifest.model.outputs), _prepare(each))
        for each in contents.artifacts
    ]
    yield from table(("artifact", "takes", "gives", "preprocessing"), rows)


def _ports(ports: list[PortRecord]) -> str:
    said = (f"{port.name}: {port.dtype} {' × '.join(map(str, port.shape))}" for port in ports)
    return ", ".join(code(each.rstrip()) for each in said)


def _prepare(packed: Packed) -> str:
    how = packed.manifest.preprocessing
    mean, std = (", ".join(f"{each:g}" for each in channels) for channels in (how.mean, how.std))
    resize, size = map(_sides, (how.resize, how.image_size))
    return f"resize to {resize} ({how.interpolation}), {how.crop} crop {size}, mean {mean}, std {std}"


def _sides(size: int | list[int]) -> str:
    return " × ".join(map(str, size)) if isinstance(size, list) else str(size)


def _accuracy(contents: Contents) -> Iterator[str]:
    measured = [(each.name, each.manifest.accuracy) for each in contents.artifacts if each.manifest.accuracy]
    if not measured:
        yield "Not measured. Parity with the checkpoint says nothing of how accurate the checkpoint is."
        return
    rows = [
        (
            code(name),
            f"{found.images} of {text(found.folder)}",
            f"{100 * found.reference.top1:.2f}",
            f"{100 * found.artifact.top1:.2f}",
            f"{found.drop_points:.2f} ({found.interval_points[0]:.2f} to {found.interval_points[1]:.2f})",
            f"{found.budget_points:.2f}",
        )
        for name, found in measured
    ]
    yield from table(("artifact", "images", "PyTorch, %:", "artifact, %:", "lost, points:", "budget, points:"), rows)


def _not_checked(contents: Contents) -> Iterator[str]:
    said: dict[str, list[str]] = {}
    for each in contents.artifacts:
        for what in unchecked(each.manifest):
            said.setdefault(what, []).append(each.name)
    everywhere = len(contents.artifacts)
    yield from bullets(
        text(what) if len(names) == everywhere else f"{text(what)} ({', '.join(map(code, names))})"
        for what, names in said.items()
    )


def _origin(contents: Contents) -> Iterator[str]:
    weights: dict[str, Manifest] = {each.manifest.weights.sha256: each.manifest for each in contents.artifacts}
    yield from bullets(
        f"{manifest.model.name.upper()}: {code(manifest.weights.source)}, sha256 {code(digest)}"
        for digest, manifest in weights.items()
    )
    tools = sorted({" ".join(tool) for each in contents.artifacts for tool in each.manifest.tools.items()})
    hosts = sorted({f"{each.manifest.host.cpu}, {each.manifest.host.os}" for each in contents.artifacts})
    yield from bullets([f"Made on: {text('; '.join(hosts))}", f"With: {text(', '.join(tools))}"])


def _check(contents: Contents) -> Iterator[str]:
    yield from ("```", f"vit-export verify-bundle {contents.name}-{contents.version} --key PUBLIC_KEY", "```", "")
    yield (
        f"`{INDEX}` has the SHA-256 of every file, `{BOM}` the bill of materials (CycloneDX), `{STATEMENT}` the "
        "verdicts (in-toto)."
    )
