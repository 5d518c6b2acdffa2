"""Faults in the files of a Core AI asset: lost, cut off, or not those that belong together."""

import os
from contextlib import nullcontext
from pathlib import Path

from export.selftest.faults.coreai.asset import rehashed
from export.selftest.faults.fault import Rng, Table, in_file
from runtimes.coreai.aimodel import HASH, METADATA, PROGRAM

fault = Table[Path]("coreai", in_file(nullcontext), "fp16 coreai")


def _cut(path: Path, rng: Rng) -> None:
    os.truncate(path / PROGRAM, int((path / PROGRAM).stat().st_size * rng.uniform(0.05, 0.95)))


@fault("interface")
def truncated(path: Path, rng: Rng) -> None:
    """The program cut off."""
    _cut(path, rng)


@fault("interface")
def truncated_and_hashed(path: Path, rng: Rng) -> None:
    """The program cut off, and hashed as it is: Apple's library ends the process that reads it."""
    _cut(path, rng)
    rehashed(path)


@fault("interface")
def another_hash(path: Path, rng: Rng) -> None:
    """A hash that is another program's."""
    (path / HASH).write_bytes(bytes(rng.integers(0, 256, 32, dtype="uint8")))


@fault("interface")
def missing_hash(path: Path, rng: Rng) -> None:
    """No hash."""
    (path / HASH).unlink()


@fault("interface")
def missing_program(path: Path, rng: Rng) -> None:
    """No program."""
    (path / PROGRAM).unlink()


@fault("interface")
def missing_metadata(path: Path, rng: Rng) -> None:
    """No metadata."""
    (path / METADATA).unlink()


@fault("interface")
def compiled_beside(path: Path, rng: Rng) -> None:
    """Something compiled in the asset, which a device would run in the place of the program."""
    (path / "main-h17.odix").write_bytes(bytes(rng.integers(0, 256, 64, dtype="uint8")))
