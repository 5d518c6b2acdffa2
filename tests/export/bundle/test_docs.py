"""docs/bundle.md, followed: its commands in a shell, in order."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.command_line import ROOT, SEARCHED
from tests.export.bundle.conftest import Authority

TEXT = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")


def blocks() -> list[str]:
    return re.findall(r"^```\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_the_page_is_followed(folders: list[Path], tmp_path: Path) -> None:
    for folder in folders[:2]:
        shutil.copytree(folder, tmp_path / "exports" / folder.name)
    authority = Authority(tmp_path, "Root")
    signer = authority.signer("release", days=10_000)
    for path, name in ((signer.key, "release.pem"), (signer.certificate, "release.crt"), (authority.root, "root.crt")):
        assert path is not None
        shutil.copyfile(path, tmp_path / name)
    shutil.copyfile(authority.root, tmp_path / "intermediate.crt")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, module in (("vit-export", "export"), ("model_signing", "model_signing")):
        (bin_folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (bin_folder / name).chmod(0o755)
    commands = [block for block in blocks() if not block.startswith("dist/")]
    assert len(commands) == 3
    search = os.pathsep.join((str(bin_folder), os.environ["PATH"]))
    for block in commands:
        ran = subprocess.run(
            ["sh", "-ec", block], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PATH": search, "PYTHONPATH": SEARCHED},
        )  # fmt: skip
        assert ran.returncode == 0, f"{block}\n{ran.stderr}"


def test_the_tree_on_the_page_is_what_there_is(signed_once: Path) -> None:
    (tree,) = (block for block in blocks() if block.startswith("dist/"))
    said = {line.split()[0].rstrip("/") for line in tree.splitlines()[1:] if re.match(r"  \S", line)}
    assert {name.partition("/")[0] for name in said} == {path.name for path in signed_once.iterdir()}
