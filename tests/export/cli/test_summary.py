"""`--summary` is of every command that gives a verdict, and an error is written there too."""

from pathlib import Path
from typing import Any

import pytest

from export.cli.main import cli


@pytest.mark.parametrize("name", ["export", "verify", "judge", "verify-bundle"])
def test_a_command_that_gives_a_verdict_takes_it(name: str) -> None:
    names = {flag for param in cli.commands[name].params for flag in param.opts}
    assert "--summary" in names


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (("m9",), "### vit-export m9: ❌ cannot be used"),
        (("verify", "nowhere"), "### vit-export verify nowhere: ❌ cannot be used"),
        (("judge", "m9", "x.onnx", "-w", "seeded"), "### vit-export judge x.onnx: ❌ cannot be used"),
        (("verify-bundle", "nowhere"), "### vit-export verify-bundle nowhere: ❌ cannot be used"),
    ],
)
def test_an_error_is_summed_up(arguments: tuple[str, ...], title: str, command: Any, tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text("before\n")
    assert command(*arguments, "--summary", "summary.md").code == 2
    said = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert said.startswith(f"before\n\n{title}\n\n```text\n")


def test_a_place_that_cannot_be_written_is_refused_first(command: Any) -> None:
    ran = command("verify", "nowhere", "--summary", "/dev/null/summary.md")
    assert (ran.code, "another place with --summary" in ran.err) == (2, True)
