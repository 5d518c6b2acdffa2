"""`vit-export bundle DIR...`: finished exports become one folder that can be handed over, described and signed."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientvit.errors import BadOption, BadOutput, NotPassed, Refused, StageFailed
from export import __version__
from export.bundle.check import Checked, check_bundle
from export.bundle.contents import Contents, Packed, indexed, root_of, shipped
from export.bundle.documents import DOCUMENTS, as_json
from export.bundle.layout import INDEX, is_label, misnamed, same_name
from export.bundle.signature import Trust
from export.bundle.signing import Signer, require_packages, sign
from export.bundle.tree import look_into
from export.folder import atomic
from export.folder.exported import open_exported
from export.folder.findings import not_passed
from export.folder.layout import MANIFEST, SHIP
from export.folder.manifest import Manifest
from export.workers.progress import Step

_A_LINE_EACH = "\n            "
"""Below each other in an error's text."""


@dataclass(frozen=True, slots=True)
class Release:
    """What the bundle is to be called. `license`: an SPDX identifier, of the weights and all that was made of them."""

    name: str
    version: str
    license: str | None = None

    @property
    def slug(self) -> str:
        """The name of its folder."""
        return f"{self.name}-{self.version}"


@dataclass(frozen=True, slots=True)
class Bundled:
    """The folder that was written, and what a check of it found."""

    folder: Path
    checked: Checked


def bundle(
    folders: Sequence[Path],
    release: Release,
    out: Path = Path("dist"),
    *,
    signer: Signer | None = None,
    replace: bool = False,
    step: Step = lambda _: None,
) -> Bundled:
    """Write `out/<name>-<version>` from folders that exports have made; all of it, or nothing.

    Raises:
        MissingExtra: the extra `release` is not installed.
        BadOption, BadInput: a name, a license, a key or a folder cannot be used.
        BadOutput: the bundle is there already, or cannot be written.
        NotPassed: a folder's verdict is not passed, or its files are not its manifest's.
    """
    require_packages("a bundle")
    release = _usable(release, folders)
    opened = None if signer is None else signer.open()
    final = out / release.slug
    if final.exists() and not replace:
        raise BadOutput(
            f"{final} exists: a version is released once",
            expected="a version that was not bundled yet",
            got=release.version,
            next_step="give it another --version, or write it anew with --replace",
        )
    manifests = _passed(folders, step)
    with atomic.new_folder(out, release.slug) as partial, atomic.writing(final):
        root = partial / release.slug  # the signature has the folder's name
        _fill(root, manifests, release, step)
        if opened is not None:
            step("signing")
            sign(root, opened)
        step("checking what was written")
        checked = check_bundle(root, Trust(), allow_unsigned=True)
        if checked.problems:
            raise StageFailed(
                "the bundle that was written is not consistent",
                expected="a bundle that verifies",
                got="; ".join(map(str, checked.problems)),
                next_step="bundle again; if that does not help, this is a defect of vit-export",
            )
        atomic.publish(root, final)
    return Bundled(final, checked)


def _usable(release: Release, folders: Sequence[Path]) -> Release:
    """With the license as SPDX writes it."""
    for option, value in (("--name", release.name), ("--version", release.version)):
        if not is_label(value):
            raise BadOption(
                f"{option} cannot be part of a folder's name",
                expected="letters, digits, '.', '_' and '-', a letter or a digit first",
                got=value,
                next_step="for example --name efficientvit --version 1.2.0",
            )
    names: dict[str, Path] = {}
    for folder in folders:
        name = folder.resolve().name
        if misnamed(name) is not None or (same := names.setdefault(same_name(name), folder)) is not folder:
            why = misnamed(name)
            raise BadOption(
                f"{folder} cannot be bundled under the name {name}",
                expected="folders with names of their own",
                got=why or f"{same} has the same name",
                next_step="rename it" if why else "bundle one of them, or rename one",
            )
    return Release(release.name, release.version, _spdx(release.license))


def _spdx(identifier: str | None) -> str | None:
    from cyclonedx.spdx import fixup_id

    if identifier is None:
        return None
    if (known := fixup_id(identifier)) is None:
        raise BadOption(
            "--license is no license that SPDX knows",
            expected="an identifier of https://spdx.org/licenses",
            got=identifier,
            next_step="for example --license Apache-2.0",
        )
    return known


def _passed(folders: Sequence[Path], step: Step) -> dict[Path, Manifest]:
    """The manifest of each. All of them are looked at, so that all that is wrong is said at once."""
    wrong: list[str] = []
    manifests: dict[Path, Manifest] = {}
    for folder in folders:
        step(f"{folder.resolve().name}: verdict and digests")
        try:
            manifests[folder] = open_exported(folder).manifest
            wrong += [f"{folder}: {reason}" for reason in _reasons(folder, manifests[folder])]
        except Refused as error:
            wrong.append(error.what if error.what.startswith(str(folder)) else f"{folder}: {error.what}")
    if wrong:
        raise NotPassed(
            "not everything may be released: nothing was bundled",
            expected="folders whose verdict is passed, and whose files are their manifests'",
            got=_A_LINE_EACH.join(wrong),
            next_step="leave them out, or export them again; `vit-export verify DIR` and `explain DIR` say more",
        )
    return manifests


def _reasons(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Why this folder may not be bundled."""
    yield from not_passed(manifest)
    tree = look_into(folder / SHIP, links=True)
    yield from (f"{SHIP}/{problem}" for problem in tree.problems)
    known, there = shipped(folder, manifest), {f"{SHIP}/{path}" for path in tree.files}
    yield from (f"{path} is not in its manifest" for path in sorted(there - known))
    yield from (f"{path} is missing" for path in sorted(known - there))


def _fill(root: Path, manifests: Mapping[Path, Manifest], release: Release, step: Step) -> None:
    packed = []
    for folder, manifest in sorted(manifests.items(), key=lambda each: each[0].resolve().name):
        name = folder.resolve().name
        step(f"{name}: copying")
        place = root / root_of(name)
        shutil.copytree(folder / SHIP, place / SHIP, copy_function=shutil.copyfile)
        shutil.copyfile(folder / MANIFEST, place / MANIFEST)
        paths = [f"{root_of(name)}/{path}" for path in sorted(look_into(place).files)]
        packed.append(Packed(name, manifest, tuple(indexed(root, path) for path in paths)))
    contents = Contents(release.name, release.version, release.license, __version__, tuple(packed))
    step("model card, bill of materials, verdicts, index")
    for path, made in DOCUMENTS.items():
        (root / path).write_bytes(made(contents))
    index = contents.index(tuple(indexed(root, path) for path in DOCUMENTS))
    (root / INDEX).write_bytes(as_json(index.to_json()))
