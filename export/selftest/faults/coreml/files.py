"""Faults in the files of a Core ML package: lost, cut off, or not those that its manifest names."""

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

from export.selftest.faults.coreml.package import WEIGHTS
from export.selftest.faults.fault import Rng, Table, in_file
from export.targets.coreml.package import MODEL

fault = Table[Path]("coreml", in_file(nullcontext), "fp16 coreml")


@fault("interface")
@fault("interface", "palette6 compress", rare=True)
def truncated_weights(path: Path, rng: Rng) -> None:
    """The weights' file cut off."""
    file = path / WEIGHTS
    size = file.stat().st_size
    os.truncate(file, int(size * rng.uniform(0.1, 0.95)))


@fault("interface")
def missing_weights(path: Path, rng: Rng) -> None:
    """No weights' file."""
    (path / WEIGHTS).unlink()


@fault("interface")
@fault("interface", "fp32 coreml", rare=True)
def truncated_model(path: Path, rng: Rng) -> None:
    """The model's protobuf cut off."""
    file = path / MODEL
    os.truncate(file, int(file.stat().st_size * rng.uniform(0.01, 0.99)))


@fault("interface")
def missing_manifest(path: Path, rng: Rng) -> None:
    """No manifest."""
    (path / "Manifest.json").unlink()


def _renamed_root(path: Path, to: str) -> None:
    file = path / "Manifest.json"
    manifest = json.loads(file.read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = to
    file.write_text(json.dumps(manifest))


@fault("interface")
def manifest_of_another_root(path: Path, rng: Rng) -> None:
    """A manifest that names the weights as the model."""
    file = path / "Manifest.json"
    manifest = json.loads(file.read_text())
    root = manifest["rootModelIdentifier"]
    manifest["rootModelIdentifier"] = next(key for key in manifest["itemInfoEntries"] if key != root)
    file.write_text(json.dumps(manifest))


@fault("interface")
def manifest_of_nothing(path: Path, rng: Rng) -> None:
    """A manifest that names a file that isn't there."""
    _renamed_root(path, "com.apple.CoreML/other.mlmodel")


@fault("interface")
def model_outside(path: Path, rng: Rng) -> None:
    """A manifest that names a healthy model beside the package: an app that bundles the package lacks it."""
    shutil.move(path / "Data" / "com.apple.CoreML", path.parent / "com.apple.CoreML")
    _renamed_root(path, "../../com.apple.CoreML/model.mlmodel")


@fault("interface")
def second_model(path: Path, rng: Rng) -> None:
    """A manifest that names a copy of the model where no weights lie beside it."""
    copy = path / "Data" / "copy" / "model.mlmodel"
    copy.parent.mkdir()
    shutil.copyfile(path / MODEL, copy)
    _renamed_root(path, "copy/model.mlmodel")
