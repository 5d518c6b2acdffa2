"""A copy of a Core ML package whose operations are changed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.targets.coreml.package import write_model
from runtimes.coreml.mlpackage import load_model


@contextmanager
def opened(package: Path, path: Path) -> Iterator[Any]:
    """The block of a copy at `path`, which is written as it is left."""
    shutil.copytree(package, path)
    model = load_model(path)
    function = model.mlProgram.functions["main"]
    yield function.block_specializations[function.opset]
    write_model(path, model)
