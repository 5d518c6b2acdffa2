"""The device kit: a folder to carry to where an artifact can be run, and to bring a report back from.

    kit/                 of a Core ML package, or of a Core AI asset
      README.md          how to run it
      check_on_mac.py    on a Mac, through coremltools; of an asset check_coreai_on_mac.py, through coreai-core
      Package.swift      on an iPhone or a Mac, through Core ML or Core AI itself
      swift/             its sources and tests
      data/              kit.json, the artifact, inputs, reference logits

    kit/                 of a TensorRT engine
      README.md          how to run it
      check_on_gpu.py    on a host with an NVIDIA GPU, through TensorRT; kit_cuda.py and kit_engine.py belong to it
      data/              kit.json, the engine and its typed ONNX file, inputs, reference logits

`kit_common.py` is what all scripts share, `kit_mac.py` what the two for the Mac do.

All that the checks need lies in `data/`, as one folder, because a Swift package can only bundle what lies below it.
"""

import hashlib
import shutil
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from efficientvit.errors import ArtifactChanged, BadOutput
from efficientvit.files import parse_json
from export.device_kit.content import JPEG, JPEG_LOGITS, KIT_JSON, Content, JpegCase, arithmetic, content_of
from export.device_kit.folder import open_for_kit
from export.device_kit.formats import FORMS
from export.folder.atomic import new_folder, publish, writing
from export.folder.exported import Exported
from runtimes.artifact import Artifact, digest
from validation.devices.cases import cases_of, kinds_of
from validation.devices.jpeg import LogitsOf, picture
from validation.devices.units import unit_budgets

KIT, DATA = "kit", "data"
_LEFT_BY_RUNS = shutil.ignore_patterns(".*", "device-report*.json", "rebuilt-*.engine", "__pycache__")
_LARGEST_BYTES = 16 << 20


def write_kit(folder: Path, *, logits_of: LogitsOf | None = None) -> Path:
    """Make `folder/kit` from the export in `folder`, whole or not at all; an older one is replaced.

    `logits_of`: the package's answers on 8-bit images, from the evaluator. With it, and where the package takes
    images, the kit has a picture that goes from JPEG through Apple's decoder and resizer; without it, it has none.

    Raises:
        BadFolder: no manifest, or not one of ours.
        BadOption: the artifact is none that has a kit (`open_for_kit`).
        NothingToShip: the export was rejected or failed.
        ArtifactChanged: the artifact or the reference is not the one that the manifest is about.
        BadGoldenSet: no golden input is left on which a device could be judged.
        BadOutput: the folder cannot be written.
    """
    exported = open_for_kit(folder)
    content = content_of(exported, _jpeg(exported, logits_of))
    with new_folder(folder, KIT) as partial, writing(folder / KIT):
        _fill(partial, exported, content)
        publish(partial, folder / KIT)
    return folder / KIT


def carry(folder: Path, out: Path) -> Path:
    """Copy the kit of `folder`, as it was made, to `out`; a kit that lies there is replaced.

    Raises:
        ArtifactChanged: the kit is not the one that was made of this folder (`kit_of`).
        BadOutput: `out` is there and no kit, or cannot be written.
    """
    kit_of(open_for_kit(folder))
    if out.exists() and not (out / DATA / KIT_JSON).is_file():
        raise BadOutput(
            f"{out} is there already, and is no device kit",
            expected="a new folder, or one that holds a kit",
            next_step="choose another folder with --out",
        )
    with new_folder(out.parent, out.name) as partial, writing(out):
        shutil.copytree(folder / KIT, partial, dirs_exist_ok=True, ignore=_LEFT_BY_RUNS)
        publish(partial, out)
    return out


def kit_of(exported: Exported) -> Content:
    """The content of the kit in the folder, proved to be what would be made of the folder now.

    Raises:
        ArtifactChanged: there is none, or one of another artifact, reference or version of vit-export.
    """
    data = exported.folder / KIT / DATA
    try:
        found = (data / KIT_JSON).read_bytes()
        content = content_of(exported, _kept(data, parse_json(found)))
        files = {name: (data / name).read_bytes() for name in content.files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _stale(exported, f"{type(error).__name__}: {error}") from error
    if content.kit_json != found:
        raise _stale(exported, f"kit.json with sha256 {hashlib.sha256(found).hexdigest()}")
    if changed := [name for name, made in content.files.items() if files[name] != made]:
        raise _stale(exported, f"other bytes in {', '.join(changed)}")
    if (sha256 := digest(data / FORMS[exported.artifact.format].artifact)) != exported.artifact.sha256:
        raise _stale(exported, f"an artifact with sha256 {sha256}")
    return content


def _stale(exported: Exported, got: str) -> ArtifactChanged:
    return ArtifactChanged(
        f"{exported.folder / KIT} is not the kit that belongs to this folder",
        expected=f"the kit of the artifact {exported.artifact.sha256}",
        got=got,
        next_step=f"remove it, run `vit-export kit {exported.folder}`, and run that kit on the device",
    )


def _kept(data: Path, record: dict[str, Any]) -> JpegCase | None:
    entry = record["jpeg"]
    if entry is None:
        return None
    files = [data / name for name in (JPEG, JPEG_LOGITS)]
    if any(file.stat().st_size > _LARGEST_BYTES for file in files):
        raise ValueError("a picture that is too large")
    return JpegCase.kept(entry, *(file.read_bytes() for file in files))


def _jpeg(exported: Exported, logits_of: LogitsOf | None) -> JpegCase | None:
    if logits_of is None or not exported.artifact.interface.image_input:
        return None
    reference = exported.reference
    kinds = kinds_of(cases_of(reference, pixels_only=True))
    cost = max(arithmetic(budget) for budget in unit_budgets(exported.artifact.format, reference, kinds).values())
    made = picture(reference.golden, logits_of, cost)
    return None if made is None else JpegCase.of(made)


def _fill(partial: Path, exported: Exported, content: Content) -> None:
    form, data = FORMS[exported.artifact.format], partial / DATA
    (data / "golden").mkdir(parents=True)
    _place(exported.artifact, data / form.artifact)
    for name, content_bytes in content.files.items():
        (data / name).write_bytes(content_bytes)
    (data / KIT_JSON).write_bytes(content.kit_json)
    words = _words(exported)
    for source, name in form.files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        _copy(resources.files("export.device_kit").joinpath("on_device", source), partial / name, words)


def _place(artifact: Artifact, target: Path) -> None:
    """Copy a package, or each of an artifact's files under the target's name."""
    if artifact.path.is_dir():
        shutil.copytree(artifact.path, target, copy_function=shutil.copyfile)
        return
    for file in artifact.files():
        shutil.copyfile(file, target.with_suffix(file.suffix))


def _copy(source: Traversable, target: Path, words: dict[str, str]) -> None:
    """Copy what runs on the device; the README speaks of this model."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for child in source.iterdir():
            _copy(child, target / child.name, words)
        return
    content = source.read_bytes()
    if target.name == "README.md":
        for word, meaning in words.items():
            content = content.replace(f"@{word}@".encode(), meaning.encode())
    target.write_bytes(content)


def _words(exported: Exported) -> dict[str, str]:
    preprocessing = exported.reference.golden.preprocessing
    built_with = dict(exported.artifact.settings)
    return {
        "MODEL": exported.artifact.path.name,
        "SHA256": exported.artifact.sha256,
        "HEIGHT": str(preprocessing.image_size.height),
        "WIDTH": str(preprocessing.image_size.width),
        "RESIZED_HEIGHT": str(preprocessing.resize.height),
        "RESIZED_WIDTH": str(preprocessing.resize.width),
        "INTERPOLATION": preprocessing.interpolation,
        "INPUT": "an 8-bit image" if exported.artifact.interface.image_input else "a normalized float32 tensor",
        "BATCH": str(exported.manifest.model.batch),
        "BUILT": f"{built_with.get('product')} {built_with.get('version')}, for {built_with.get('sm')}",
    }
