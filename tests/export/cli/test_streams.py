"""Printing never fails: not for want of a character in the stream's encoding, not for a file name that is no text."""

import io
import subprocess
import sys

import pytest

from export.cli.streams import never_failing
from tests.command_line import ROOT


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("ascii", "±0.5 in exports", b"\\xb10.5 in exports"),
        ("ascii", "na\udcc3\udcafve", "naïve".encode()),
        ("utf-8", "±\udcff", "±".encode() + b"\xff"),
    ],
)
def test_a_character_that_a_stream_lacks_is_shown_by_its_number_and_a_name_by_its_bytes(
    encoding: str, text: str, shown: bytes
) -> None:
    out = io.BytesIO()
    with io.TextIOWrapper(out, encoding=encoding, errors=never_failing()) as stream:
        stream.write(text)
        stream.flush()
        assert out.getvalue() == shown


def test_a_table_and_a_folder_beyond_ascii_in_the_c_locale() -> None:
    program = (
        "from export.cli import console, streams; from rich.table import Table; streams.set_up()\n"
        "with console.console() as screen:\n"
        r"    table = Table('\xb1', '\udcc3\udcbc'); table.add_row('\xd7', '\xe9'); screen.print(table)" + "\n"
        r"print('\u2026')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ü".encode() in done.stderr
    assert b"\\xd7" in done.stderr
    assert done.stdout.strip() == b"\\u2026"


def test_too_little_memory_for_pytorch_is_no_defect() -> None:
    resource = pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-m", "export", "judge", "m0", "nothing.onnx", "-w", "seeded"],
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "too little memory" in done.stderr
    assert "Traceback" not in done.stderr
