"""Calls of our own functions on workers, for what makes no artifact: a folder is judged, faults are planted."""

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from export.cluster.blobs import Blobs, Tree
from export.cluster.crew import Needs
from export.cluster.shipment import Shipping, naming
from export.cluster.tasks import Answer, Logged, helped, only_one_measures
from export.progress import Progress
from validation.accuracy.sharing import sharing

Function = Callable[..., Any]
"""Of a module that workers have: it is called with their `Progress`, where the files lie there, and what is given."""


@dataclass(frozen=True, slots=True)
class Errand:
    """A call. `given`: arguments that can be pickled, as the result can. `needs`: the best first; `what`: for people.

    `files`: that are sent along; the function finds them by the names that they have here. `labeled`: others help with
    labeled images.
    """

    function: Function
    given: tuple[object, ...]
    needs: tuple[Needs, ...]
    what: str
    files: tuple[Path, ...] = ()
    labeled: bool = False


@dataclass(frozen=True, slots=True)
class Calling:
    """An errand as it travels. `given`: by digest, pickled; `trees`: what lies at each path. `helpers`: what they need.

    `number`: of the errand. `topic`: where progress is logged.
    """

    number: int
    function: Function
    given: tuple[str, ...]
    trees: Mapping[str, Tree]
    helpers: frozenset[str] | None
    topic: str

    @classmethod
    def of(cls, number: int, errand: Errand, needs: Needs, shipping: Shipping, topic: str) -> "Calling":
        """What is the same for several errands is sent once.

        Raises:
            BadInput: a file cannot be read.
        """
        given = tuple(shipping.contents.add_bytes(pickle.dumps(each)) for each in errand.given)
        trees = {str(path): shipping.tree(str(path)) for path in errand.files}
        return cls(number, errand.function, given, trees, needs.all_of if errand.labeled else None, topic)

    @property
    def digests(self) -> frozenset[str]:
        """Of the files that it needs."""
        return frozenset(self.given).union(*(tree.digests for tree in self.trees.values()))

    def done(self, blobs: Blobs, scratch: Path, worker: str, others: Sequence[str]) -> Answer:
        """What the function gives, pickled."""
        progress = cast(Progress, Logged(self.topic))
        with (
            only_one_measures().working(),
            sharing(helped(None if self.helpers is None else (self.helpers, others))),
            naming(blobs, scratch, self.trees) as paths,
        ):
            given = [pickle.loads(blobs.read(digest)) for digest in self.given]  # noqa: S301 - the client's
            content = pickle.dumps(self.function(progress, paths, *given))
        digest = hashlib.sha256(content).hexdigest()
        return Answer(worker, report=digest, contents={digest: content})
