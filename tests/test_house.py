"""The rules of the house that no linter knows: what imports cost, what is pinned, what is tracked."""

import ast
import graphlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGES = ("efficientvit", "runtimes", "validation", "export")
CARRIED = (ROOT / "export/device_kit/in_app", ROOT / "export/device_kit/on_device")
"""Run on other machines, not imported here."""

OPTIONAL = ("coreai", "coreai_torch", "coremltools", "openvino", "tensorrt", "tensorrt_rtx", "timm", "torchvision",
            "skimage", "distributed", "dask", "cyclonedx", "model_signing", "OpenSSL", "cryptography")  # fmt: skip
# What takes a tenth of a second or more to import; numpy stands for all that is built on it.
HEAVY = ("torch", "numpy", "scipy", "onnx", "onnxscript", "onnxruntime", "onnxsim", "onnxconverter_common",
         "huggingface_hub", "pooch", "requests", "PIL", *OPTIONAL)  # fmt: skip

# Imports sys.argv[1] with the modules of sys.argv[2] hidden, and prints which of sys.argv[3] that loaded.
IMPORT = """
import importlib, json, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in json.loads(sys.argv[2]):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps([name for name in json.loads(sys.argv[3]) if name in sys.modules]))
"""

# Runs the command line's help as a person would, and prints which of sys.argv[1] that loaded.
HELP = """
import json, sys
watched = json.loads(sys.argv[1])
sys.argv = ["vit-export", "--help"]
from export.cli.main import main
try:
    main()
except SystemExit as exit:
    assert not exit.code, exit.code
print(json.dumps([name for name in watched if name in sys.modules]))
"""


def sources() -> list[Path]:
    """Every Python file of the four packages."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return [file for file in files if not set(CARRIED) & set(file.parents)]


def modules() -> list[str]:
    """Every module of the four packages that is not run by being imported."""
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in sources())
    return [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]


def python(program: str, *arguments: object) -> Any:
    """What `program` prints last, as JSON, run by a fresh interpreter under warnings as errors."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *(json.dumps(argument) for argument in arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def declared() -> list[Requirement]:
    project = pyproject()["project"]
    extras = project["optional-dependencies"].values()
    texts = [*project["dependencies"], *(text for extra in extras for text in extra)]
    return [requirement for requirement in map(Requirement, texts) if requirement.name != project["name"]]


def tracked_files() -> list[str]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_every_module_imports_without_the_optional_packages() -> None:
    assert modules()
    assert python(IMPORT, modules(), OPTIONAL, OPTIONAL) == []


def test_the_hiding_of_packages_hides_them() -> None:
    with pytest.raises(AssertionError, match="No module named 'torchvision'"):
        python(IMPORT, ["torchvision"], OPTIONAL, OPTIONAL)


@pytest.mark.parametrize("package", [*PACKAGES, "export.api"])
def test_a_package_alone_imports_nothing_heavy(package: str) -> None:
    assert python(IMPORT, [package], [], HEAVY) == []


def test_telling_a_finished_export_loads_no_torch() -> None:
    """A run that finds nothing changed takes less time than that import."""
    told = ("validation.gates.table", "export.cli.summary", "export.pipeline.finished")
    assert python(IMPORT, told, [], ("torch", "onnx", "scipy", *OPTIONAL)) == []


def test_help_imports_nothing_heavy() -> None:
    assert python(HELP, HEAVY) == []


def test_python_dash_m_is_the_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "export", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "vit-export" in ran.stdout


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_every_dependency_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_the_pins_are_sorted_and_exact() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert lines == sorted(lines, key=str.lower)


def test_the_version_is_said_once() -> None:
    settings = pyproject()
    assert settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "export.__version__"}


def test_the_packages_listed_are_the_packages_there_are() -> None:
    there = {".".join(file.parent.relative_to(ROOT).parts) for file in sources()}
    settings = pyproject()["tool"]["setuptools"]["packages"]["find"]
    assert settings.pop("namespaces") is False
    assert set(setuptools.find_packages(str(ROOT), **settings)) == there
    assert [package for package in PACKAGES if not (ROOT / package / "py.typed").is_file()] == []


def test_files_and_folders_stay_small() -> None:
    """A file over 300 lines says in its docstring why: with the word "long"."""
    texts = {path: path.read_text(encoding="utf-8") for path in sources()}
    long = [path for path, text in texts.items() if text.count("\n") > 300]
    assert [path for path in long if "long" not in (ast.get_docstring(ast.parse(texts[path])) or "")] == []
    folders = {path.parent for path in texts}
    entries = {folder: [each for each in folder.iterdir() if each.name != "__pycache__"] for folder in folders}
    assert {str(folder.relative_to(ROOT)): len(names) for folder, names in entries.items() if len(names) > 22} == {}


def test_no_files_import_each_other_in_a_circle() -> None:
    """Neither where a function imports, nor for types alone: what is read together cannot be understood apart."""
    known = set(modules())

    def imported(file: Path) -> set[str]:
        names = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                inside = {f"{node.module}.{each.name}" for each in node.names}
                names |= inside & known or {node.module}
        return names & known

    def name_of(file: Path) -> str:
        return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    graph = {name_of(file): imported(file) - {name_of(file)} for file in sources()}
    assert sum(map(len, graph.values())) > 1000
    graphlib.TopologicalSorter(graph).prepare()  # names a circle, if there is one


def test_a_refused_option_says_what_to_do_next() -> None:
    refusals = [
        (f"{path.relative_to(ROOT)}:{node.lineno}", {keyword.arg for keyword in node.keywords})
        for path in sorted((ROOT / "export").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "BadOption"
    ]
    assert len(refusals) > 20
    assert [where for where, given in refusals if not {"expected", "got", "next_step"} <= given] == []


def test_no_file_names_the_machine_it_was_written_on() -> None:
    # In two parts, so that this file does not name one itself.
    places = re.compile("/(work|tmp/dev|opt/wheels|root)" + "/")
    found = []
    for name in tracked_files():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data:
            found += [f"{name}: {hit[0]}" for hit in places.finditer(data.decode("utf-8"))]
    assert found == []
