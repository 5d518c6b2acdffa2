"""A process that opens one Core AI asset, and what it says: runtimes/coreai/child.py is its program.

Apple's library ends the whole process where an asset is broken, so that it must not be this one.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from efficientvit.errors import StageFailed
from runtimes.host.packages import same_packages

_PROGRAM = Path(__file__).with_name("child.py")
_TOLD = 300
"""Characters of what the library printed last, which an error repeats."""


class Ended(Exception):
    """The process ended, or said that it failed; the text says how."""


class Child:
    """The process, from `with` to the end of its block.

    Args:
        what: `read` or `run`.
        path: the asset.
    """

    def __init__(self, what: str, path: Path) -> None:
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # -P: the folder of the program is no place to import from. The path is this process's own.
        self._process = subprocess.Popen(  # noqa: S603 - this Python, and a program of this package
            [sys.executable, "-P", str(_PROGRAM), what, str(path.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            env=same_packages(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process: it stops reading where its input ends, and is stopped where it hangs."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:  # it ended before it had read everything
                continue
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._printed.close()

    def ask(self, name: str, array: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        """What the function gives of `array` as its input `name`, by output.

        Raises:
            Ended: the process ended, or refused it.
        """
        pipe = self._process.stdin
        assert pipe is not None
        header = {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
        try:
            pipe.write(json.dumps(header).encode() + b"\n" + np.ascontiguousarray(array).tobytes())
            pipe.flush()
        except BrokenPipeError as error:
            raise self._ended() from error
        found = self.message()
        return {each["name"]: self.array(np.dtype(each["dtype"]), each["shape"]) for each in found["outputs"]}

    def message(self) -> dict[str, Any]:
        """The next message's header.

        Raises:
            Ended: there is none, or it says that the process failed.
        """
        pipe = self._process.stdout
        assert pipe is not None
        line = pipe.readline()
        if not line.endswith(b"\n"):
            raise self._ended()
        header: dict[str, Any] = json.loads(line)
        if "error" in header:
            raise Ended(header["error"])
        return header

    def array(self, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
        """The next array behind a header."""
        return np.frombuffer(self.bytes(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize), dtype).reshape(shape)

    def bytes(self, count: int) -> bytes:
        """The next `count` bytes behind a header."""
        pipe = self._process.stdout
        assert pipe is not None
        data = pipe.read(count)
        if len(data) != count:
            raise self._ended()
        return data

    def _ended(self) -> Ended:
        try:
            code: int | None = self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            code = None
        self._printed.seek(0)
        text = " ".join(self._printed.read().decode(errors="replace").split())
        errors = text[text.find("error:") :] if "error:" in text else text[-_TOLD:]
        how = "closed its output" if code is None else f"ended with code {code}"
        return Ended(f"Apple's library {how}: {errors[:_TOLD] or 'it said nothing'}")


def refused(label: str, error: Ended) -> StageFailed:
    """The asset could be read, and Apple's runtime does not take it."""
    return StageFailed(
        f"Apple's Core AI runtime refuses {label}",
        got=str(error),
        next_step="export it again; if it is fresh, this version of coreai-core lacks what the file asks for",
    )
