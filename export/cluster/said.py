"""What workers say of their work, shown as the progress of one process."""

import pickle
from dataclasses import dataclass, field
from typing import Any

from export.workers.progress import Progress


@dataclass(slots=True)
class Said:
    """The steps of all workers in a line; what several report alike once."""

    progress: Progress
    _steps: dict[str, str] = field(default_factory=dict)
    _shown: set[str] = field(default_factory=set)

    def show(self, event: Any) -> None:
        """A call of `Progress` that a worker has logged (`tasks.Logged`)."""
        worker, (name, given, named) = event["worker"], pickle.loads(event["said"])  # noqa: S301 - our own worker's
        if name == "step":
            self._steps[worker] = given[0]
            self.progress.step("   ".join(self._steps.values()))
        elif (said := f"{name} {given} {named}") not in self._shown:
            self._shown.add(said)
            getattr(self.progress, name)(*given, **named)

    def ended(self, worker: str) -> None:
        """It has no step any more."""
        self._steps.pop(worker, None)
