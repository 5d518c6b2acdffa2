"""The network in a file that has preprocessing or answers around it: what every gate but those about them judges."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from runtimes.artifact import Artifact, digest
from runtimes.interface import takes_images
from runtimes.registry import reader_of


@contextmanager
def network_of(artifact: Artifact) -> Iterator[Artifact]:
    """The artifact itself where nothing is around its network; else the network, as a file of its own meanwhile.

    Raises:
        BrokenArtifact: the file is not built as it should be.
    """
    if artifact.interface.wrapping is None:
        yield artifact
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / artifact.path.name
        reader_of(artifact).unwrap(artifact, path)
        interface = replace(artifact.interface, wrapping=None)
        yield replace(artifact, path=path, sha256=digest(path), interface=interface)


@contextmanager
def preprocessing_of(artifact: Artifact) -> Iterator[Artifact | None]:
    """What comes before the network in such a file, as a file of its own meanwhile; None where nothing does.

    Raises:
        BrokenArtifact: the file is not built as it should be.
    """
    if not takes_images(artifact):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / artifact.path.name
        reader_of(artifact).preprocessing(artifact, path)
        yield replace(artifact, path=path, sha256=digest(path))


def wrapped_again(artifact: Artifact, network: Artifact) -> str:
    """The digest of the file that the network and the wrapping make that the artifact should have."""
    assert artifact.interface.wrapping is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / artifact.path.name
        reader_of(artifact).wrap(network, artifact.interface.wrapping, path)
        return digest(path)
