"""`vit-export verify DIR`: judge an exported folder again, on this host, from the folder alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientvit.errors import ArtifactChanged, BadInput, BadOption, NothingToShip
from efficientvit.spec import model_spec
from export.manifest import SCHEMA
from export.outcome import Exit, status_of
from runtimes.artifact import Artifact, Dtype, Format, Precision, digest
from runtimes.base import Evidence
from runtimes.registry import runtime_for
from validation import reference_file
from validation.judge import judge
from validation.verdict import NotRun, Rejected, Verdict, VerifiedArtifact


class BadFolder(BadInput):
    """The folder is not one that an export made."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The new verdict on a folder, and what the manifest says of the old one."""

    folder: Path
    verdict: Verdict
    recorded: str
    trained: bool
    fallback: bool

    @property
    def status(self) -> str:
        """`verified`, `rejected` or `not_run`."""
        return status_of(self.verdict)

    def code(self, required: Evidence) -> Exit:
        """As an export's exit code."""
        match self.verdict:
            case Rejected():
                return Exit.REJECTED
            case VerifiedArtifact(report=report) if report.evidence.at_least(required) and not self.fallback:
                return Exit.OK
        return Exit.OK if required is Evidence.BUILT and not self.fallback else Exit.NOT_VERIFIED


def verify(folder: Path) -> Verification:
    """Judge what lies in `folder/ship` against the reference in `folder/evidence`.

    Raises:
        BadFolder: no manifest, or not one of ours.
        BadGoldenSet: the reference is missing or was changed.
        ArtifactChanged: the artifact, the golden set or the reference is not the one that the manifest is about.
    """
    manifest = _manifest(folder)
    try:
        stage, model, weights = manifest["stages"][-1], manifest["model"], manifest["weights"]
        if manifest["artifact"] is None:
            raise NothingToShip(
                f"{folder} holds nothing that may ship: its export was {manifest['status']}",
                expected="a folder of an export that ended with an artifact",
                next_step="export again",
            )
        artifact = Artifact(
            path=_inside(folder, manifest["artifact"]),
            format=Format(stage["artifact"]["format"]),
            precision=Precision(**{key: Dtype(value) for key, value in manifest["precision"].items()}),
            model=model_spec(model["name"], model["image_size"], model["classes"]),
            batch=None if model["batch"] == "dynamic" else int(model["batch"]),
            sha256=stage["artifact"]["sha256"],
            made_by=stage["name"],
            source_sha256=stage["artifact"]["source_sha256"],
        )
        golden_sha256, recorded = manifest["golden"]["sha256"], manifest["status"]
        beside = [
            (str(entry["path"]), entry["sha256"]) for entry in (manifest["reference"], manifest["settings"]["shipped"])
        ]
        vacuous, failures = manifest["self_check"]["vacuous"], manifest["self_check"]["failures"]
        trained, fallback = bool(weights["trained"]), bool(weights["fallback"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadFolder(f"{folder}/manifest.json is incomplete or of another kind", got=repr(error)) from error
    artifact.require_unchanged()
    reference = reference_file.load(folder / "evidence")
    if reference.golden.sha256 != golden_sha256:
        raise ArtifactChanged(
            f"the golden set in {folder} is not the one that the manifest is about",
            expected=golden_sha256,
            got=reference.golden.sha256,
            next_step="export the artifact again",
        )
    # The floors and answers decide the verdict, and a verdict covers the settings it was made with.
    for path, sha256 in beside:
        _require_same(folder, path, sha256)
    verdict = judge(artifact, reference, runtime_for(artifact.format), defaults=True)
    if vacuous and isinstance(verdict, VerifiedArtifact):
        verdict = NotRun(
            artifact,
            reason=f"parity on these weights would be vacuous: {'; '.join(failures)}",
            remedy="export trained weights",
            report=verdict.report,
        )
    return Verification(folder, verdict, recorded, trained, fallback)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFolder(
            f"{folder} is not a folder that an export made",
            expected="a readable manifest.json in it",
            got=str(error),
            next_step="name a folder such as exports/m2-onnx-fp32",
        ) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise BadFolder(f"{path} is of another schema", expected=str(SCHEMA), got=str(found))
    return manifest


def _require_same(folder: Path, relative: str, expected: str) -> None:
    if (found := digest(_inside(folder, relative))) != expected:
        raise ArtifactChanged(
            f"{relative} in {folder} is not the one that the manifest is about",
            expected=expected,
            got=found,
            next_step="export the artifact again",
        )


def _inside(folder: Path, relative: str) -> Path:
    path = folder / relative
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadOption(f"the manifest in {folder} names a file outside of it", got=relative)
    return path
