"""What the model gives: logits, the pooled embedding, or the stages' maps that a detector takes. Nothing heavy."""

import re
from dataclasses import dataclass
from enum import StrEnum

from efficientvit.errors import BadOption

STAGES = (1, 2, 3)


class HeadKind(StrEnum):
    """What stands behind the stages."""

    LOGITS = "logits"
    EMBEDDING = "embedding"
    FEATURES = "features"


@dataclass(frozen=True, slots=True)
class Output:
    """One output, by name. `shape`: of one image. `stride`: of a map, the image's pixels for each of its cells."""

    name: str
    shape: tuple[int, ...]
    stride: int | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The classifier, the average pool alone, or the maps of some stages. `stages`: of maps, ascending."""

    kind: HeadKind = HeadKind.LOGITS
    stages: tuple[int, ...] = ()

    def __str__(self) -> str:
        """As `--head` takes it."""
        chosen = "" if self.stages in ((), STAGES) else f":{','.join(map(str, self.stages))}"
        return f"{self.kind}{chosen}"

    @property
    def gives_logits(self) -> bool:
        """It is a classifier."""
        return self.kind is HeadKind.LOGITS

    @property
    def last_stage(self) -> int:
        """The stages behind it are no part of the model."""
        return max(self.stages, default=STAGES[-1])

    def leaves_out(self, tensor: str) -> bool:
        """Whether a tensor of the classifier, by our name for it, is no part of a model with this head."""
        part = tensor.partition(".")[0]
        return not self.gives_logits and (part.startswith("head") or part in self._stages_behind)

    @property
    def _stages_behind(self) -> tuple[str, ...]:
        return tuple(f"stage{number}" for number in STAGES if number > self.last_stage)

    @classmethod
    def parse(cls, text: str) -> "Head":
        """Of `logits`, `embedding` or `none`, which are the same, `features`, or `features:2,3`.

        Raises:
            BadOption: none of these, or there is no such stage.
        """
        name, colon, chosen = text.partition(":")
        if name == HeadKind.FEATURES and re.fullmatch(r"[1-3](,[1-3])*" if colon else "", chosen):
            return cls(HeadKind.FEATURES, tuple(sorted({int(each) for each in chosen.split(",")})) if colon else STAGES)
        if not colon and name in _WITHOUT_MAPS:
            return cls(_WITHOUT_MAPS[name])
        raise BadOption(
            f"there is no head '{text}'",
            expected="logits, embedding (or none), features, or features:2,3 for the maps of some of the stages 1 to 3",
            got=text,
            next_step="leave --head out for a classifier; a detector takes --head features",
        )


_WITHOUT_MAPS = {"logits": HeadKind.LOGITS, "embedding": HeadKind.EMBEDDING, "none": HeadKind.EMBEDDING}
CLASSIFIER = Head()
