"""A package that adds a target through entry points, as docs/adding-a-target.md says; and packages that are broken."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import jsonschema
import pytest

from efficientvit.errors import BadOption, StageFailed
from export.cache.fingerprint import code_files
from export.targets import registry
from export.targets.onnx.target import TARGET as ONNX
from export.targets.options import option
from export.targets.registry import TARGETS, find_target, usable
from export.targets.target import TargetOptions
from runtimes.wrapping import Takes
from tests.command_line import SEARCHED, Ran
from tests.export.conftest import TINY, Command
from validation.gates.identity import not_proven

PLUGIN = Path(__file__).parent / "plugin"


def install(place: Path, name: str, **entry_points: str) -> None:
    """Write what pip would: the metadata of a distribution, in a folder on the search path."""
    folder = place / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = [f"[vit_export.{group}]\n{points}\n" for group, points in entry_points.items()]
    (folder / "entry_points.txt").write_text("\n".join(groups))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A search path with the example installed, as one would set PYTHONPATH."""
    place = tmp_path / "site"
    shutil.copytree(PLUGIN, place)
    install(
        place, "vit-export-ort", targets="ort = vit_export_ort.target:TARGET", formats="ort = vit_export_ort.format:ROW"
    )
    return place


_EACH = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from tests.command_line import in_this_process
print(json.dumps([asdict(in_this_process(each, Path.cwd())) for each in json.loads(sys.argv[1])]))
"""


def _commands(path: str, cwd: Path, *commands: tuple[str, ...]) -> list[Ran]:
    """What each command says, one after the other in one process that has never looked for packages before."""
    done = subprocess.run(
        [sys.executable, "-c", _EACH, json.dumps(commands)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Ran(**each) for each in json.loads(done.stdout)]


def test_its_artifact_is_verified(site: Path, tmp_path: Path) -> None:
    ran, verified, schema, helped, doctor, refused, elsewhere = _commands(
        f"{SEARCHED}:{site}",
        tmp_path,
        (*TINY, "-t", "ort", "--ort-level", "1", "-o", "out", "--json", "--summary", "export.md"),
        ("verify", "out/m0-64-ort-fp32-level1-untrained", "--junit", "verify.xml"),
        ("schema", "manifest"),
        ("export", "--help"),
        ("doctor", "--json"),
        ("m0", "--ort-level", "2", "-t", "ort"),
        ("m0", "--ort-level", "1"),
    )
    assert ran.code == 0, ran.err
    (manifest,) = json.loads(ran.out)["artifacts"]
    recorded = tmp_path / "out" / "m0-64-ort-fp32-level1-untrained" / "manifest.json"
    assert Path(manifest["folder"]).name == recorded.parent.name
    assert (manifest["status"], manifest["artifact"]) == ("verified", "ship/efficientvit_m0.ort")
    assert [stage["name"] for stage in manifest["stages"]] == ["rewrite", "trace", "simplify", "ort"]
    gates = manifest["stages"][-1]["verdict"]["gates"]
    assert all(gates[name]["passed"] for name in ("interface", "constants", "structure", "precision"))

    assert manifest["ort"] == {"level": 1}
    assert verified.code == ran.code, verified.err
    described = json.loads(schema.out)
    jsonschema.Draft202012Validator(described).validate(json.loads(recorded.read_text()))
    (record,) = described["properties"]["ort"]["$defs"].values()
    assert record["properties"]["level"]["type"] == "integer"
    assert record["properties"]["level"]["description"].startswith("--ort-level: Graph optimizations in the file")

    unproven = not_proven(manifest["golden"]["images"])
    page = (recorded.parent / "report.html").read_text().replace("&#39;", "'").replace("Program", "program")
    for said in (ran.err, verified.out + verified.err, page, (tmp_path / "export.md").read_text()):
        assert unproven in said
    cases = {case.attrib["name"]: case for case in ElementTree.parse(tmp_path / "verify.xml").iter("testcase")}
    assert [(each.tag, each.text) for each in cases["identity"]] == [("skipped", unproven)]

    assert "ORT files (-t ort)" in helped.out
    abilities = {each["target"]: each for each in json.loads(doctor.out)["targets"]}
    assert abilities["ort"]["can_make"]
    assert (refused.code, "--ort-level is 0 or 1" in refused.err) == (2, True)
    assert (elsewhere.code, "options for ORT files, and none is to be made" in elsewhere.err) == (2, True)


def test_its_code_is_part_of_the_caches_key(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    assert set(code_files()) >= set((site / "vit_export_ort").glob("*.py"))


Install = Callable[..., None]


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs packages whose entry points give what is told."""
    monkeypatch.syspath_prepend(tmp_path)
    module = ModuleType("broken_targets")
    monkeypatch.setitem(sys.modules, "broken_targets", module)

    def installs(package: str, target: str, found: object) -> None:
        attribute = package.replace("-", "_")
        if found is not None:
            setattr(module, attribute, found)
        install(tmp_path, package, targets=f"{target} = broken_targets:{attribute}")
        registry._installed.cache_clear()

    registry._loaded.cache_clear()
    yield installs
    monkeypatch.undo()
    registry._installed.cache_clear()


def test_a_package_that_is_broken_is_named_and_takes_nothing_from_the_others(broken: Install) -> None:
    broken("gone", "lost", None)
    with pytest.raises(StageFailed, match="the target 'lost' of the package 'gone' cannot be used") as failed:
        find_target("lost")
    assert "AttributeError" in str(failed.value.got)
    assert "pip install --upgrade gone" in str(failed.value.next_step)
    assert [target.name for target in usable()] == ["onnx", "openvino", "coreml", "coreai", "tensorrt"]
    assert find_target("onnx") is ONNX
    with pytest.raises(BadOption, match="unknown target 'tflite'") as unknown:
        find_target("tflite")
    assert unknown.value.expected == "onnx, openvino, coreml, coreai, tensorrt, lost"


@pytest.mark.parametrize(
    ("found", "got"),
    [
        (replace(ONNX, name="new", api=1), "version 1 of the interface"),
        (replace(ONNX, name="other"), "one that is called 'other'"),
        ("a string", "a str"),
    ],
    ids=str,
)
def test_a_package_that_is_incompatible_is_named(found: object, got: str, broken: Install) -> None:
    broken("incompatible", "new", found)
    with pytest.raises(StageFailed, match="the target 'new' of the package 'incompatible'") as failed:
        TARGETS["new"]
    assert got in str(failed.value.got)


def test_a_target_that_takes_pixels_and_cannot_wrap_them_is_none() -> None:
    """Or `--input pixels` would be accepted, and the file would take a tensor."""
    with pytest.raises(ValueError, match="'onnx' takes tensor, pixels, image: more than a tensor needs `wrap`"):
        replace(ONNX, wrap=None)
    with pytest.raises(ValueError, match="needs `wrap`"):
        replace(ONNX, feeds=(Takes.TENSOR,))


def test_flags_that_are_taken_are_refused_where_the_target_is_asked_for(
    broken: Install, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True, slots=True)
    class Options(TargetOptions):
        photos: str | None = option(None, "--golden", "The command has it.")

    broken("greedy", "new", replace(ONNX, name="new", options=Options))
    ran = command("m0", "-t", "new", "-w", "seeded")
    assert (ran.code, "the target 'new' cannot be used: a flag" in ran.err) == (4, True)
    assert "golden folder" in command("m0", "-t", "onnx", "-w", "seeded", "--golden", "gone").err


def test_a_name_that_two_have_is_refused_and_both_are_named(broken: Install) -> None:
    broken("first", "new", replace(ONNX, name="new"))
    assert TARGETS["new"].title == ONNX.title
    broken("second", "new", replace(ONNX, name="new"))
    broken("third", "coreml", replace(ONNX, name="coreml"))
    for name, owners in (("new", "first, second"), ("coreml", "vit-export itself, third")):
        with pytest.raises(StageFailed, match=f"more than one target is called '{name}'") as failed:
            TARGETS[name]
        assert failed.value.got == owners
