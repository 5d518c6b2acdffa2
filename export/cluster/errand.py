"""Calls of our own functions on workers: a folder is judged, faults are planted, a benchmark is measured."""

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from export.cluster.blobs import Blobs, Tree
from export.cluster.crew import Needs
from export.cluster.returned import content_of, publish_into
from export.cluster.shipment import Shipping, naming
from export.cluster.tasks import Answer, Folder, Logged, files_in, helped, only_one_measures
from export.workers.progress import Progress
from validation.accuracy.sharing import sharing

Function = Callable[..., Any]
"""Of a module that workers have: it is called with their `Progress`, where the files lie there, and what is given."""

Check = Callable[[Any, Path], object]
"""Of what a function gave and of the folder with what it wrote: raises `Refused` where the two are not of one kind."""


def unchecked(_: Any, __: Path) -> None:
    """Nothing but digests and manifests is compared."""


@dataclass(frozen=True, slots=True)
class Errand:
    """A call. `given`: arguments that can be pickled, as the result can. `needs`: the best first; `what`: for people.

    `files`: that are sent along; the function finds them by the names that they have here. `labeled`: others help with
    labeled images. `out`: a folder here; what the function writes into the one that has its name there comes back, and
    is published where it passes the `check`.
    """

    function: Function
    given: tuple[object, ...]
    needs: tuple[Needs, ...]
    what: str
    files: tuple[Path, ...] = ()
    labeled: bool = False
    out: Path | None = None
    check: Check = unchecked

    def taken(self, answer: Answer) -> Any:
        """What the function gave; what it wrote is in its place.

        Raises:
            NotWhatItSays: something is not what the worker says of it, and nothing of it is left.
            BadOutput: it cannot be written.
        """
        content = content_of(str(answer.report), answer.contents, "a result")
        given = pickle.loads(content)  # noqa: S301 - our own worker's
        if self.out is not None:
            publish_into(self.out, answer.folders, answer.contents, partial(self.check, given))
        return given


@dataclass(frozen=True, slots=True)
class Calling:
    """An errand as it travels. `given`: by digest, pickled; `trees`: what lies at each path. `helpers`: what they need.

    `number`: of the errand. `topic`: where progress is logged. `out`: a folder of the client.
    """

    number: int
    function: Function
    given: tuple[str, ...]
    trees: Mapping[str, Tree]
    helpers: frozenset[str] | None
    topic: str
    out: str | None

    @classmethod
    def of(cls, number: int, errand: Errand, needs: Needs, shipping: Shipping, topic: str) -> "Calling":
        """What is the same for several errands is sent once.

        Raises:
            BadInput: a file cannot be read.
        """
        given = tuple(shipping.contents.add_bytes(pickle.dumps(each)) for each in errand.given)
        trees = {str(path): shipping.tree(str(path)) for path in errand.files}
        helpers, out = needs.all_of if errand.labeled else None, None if errand.out is None else str(errand.out)
        return cls(number, errand.function, given, trees, helpers, topic, out)

    @property
    def digests(self) -> frozenset[str]:
        """Of the files that it needs."""
        return frozenset(self.given).union(*(tree.digests for tree in self.trees.values()))

    def done(self, blobs: Blobs, scratch: Path, worker: str, others: Sequence[str]) -> Answer:
        """What the function gives, pickled, and what it wrote."""
        progress = cast(Progress, Logged(self.topic))
        with (
            only_one_measures().working(),
            sharing(helped(None if self.helpers is None else (self.helpers, others))),
            naming(blobs, scratch, self.trees, self.out) as paths,
        ):
            given = [pickle.loads(blobs.read(digest)) for digest in self.given]  # noqa: S301 - the client's
            content = pickle.dumps(self.function(progress, paths, *given))
            digest = hashlib.sha256(content).hexdigest()
            contents = {digest: content}
            folders: tuple[Folder, ...] = ()
            if self.out is not None:
                name = Path(self.out).name
                folders = (Folder(self.number, name, name, files_in(Path(paths[self.out]), contents)),)
        return Answer(worker, folders=folders, report=digest, contents=contents)
