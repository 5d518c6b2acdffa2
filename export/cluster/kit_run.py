"""A device kit, run as its README says: by its own script, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from efficientvit.errors import StageFailed

_REPORT = "device-report.json"
_TIMEOUT_S = 3 * 3600.0
"""More than the script itself gives its units together."""


def environment(_: Path) -> Mapping[str, str]:
    """Of the process of this kit's script."""
    return os.environ


def report(kit: Path, script: str, *, timed: bool) -> bytes:
    """What the script wrote. Whether its units passed is for `attach` to say, from the raw outputs in it.

    Raises:
        StageFailed: it wrote nothing.
    """
    command = [sys.executable, script, *([] if timed else ["--no-time"])]
    try:
        ran = subprocess.run(  # noqa: S603 - the kit's own script
            command, cwd=kit, env=environment(kit), capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise StageFailed(f"{script} did not end", expected=f"an end within {_TIMEOUT_S:.0f} s") from error
    try:
        return (kit / _REPORT).read_bytes()
    except FileNotFoundError as error:
        lines = (ran.stderr or ran.stdout).strip().splitlines()
        raise StageFailed(
            f"{script} wrote no report",
            expected=_REPORT,
            got=f"exit code {ran.returncode}: {lines[-1][:200] if lines else 'no message'}",
            next_step="run the kit by hand on that host: its README says how",
        ) from error
