"""What `vit-export selftest` found: healthy artifacts, planted faults, and which gate saw each."""

from dataclasses import dataclass
from typing import Any

from efficientvit.weights.source import Weights
from export.exits import Exit
from export.records import plain
from export.report.card import Row, card
from validation.proof.outcome import Outcome
from validation.self_check import SelfCheck

_VISIBLE = 2.0
"""Budgets: a fault of such an effect has to be caught."""


@dataclass(frozen=True, slots=True)
class Healthy:
    """A stage's artifact as it should be, and whether the gates let it pass."""

    target: str
    variant: str
    stage: str
    passed: bool
    why: str


@dataclass(frozen=True, slots=True)
class Detection:
    """One planted fault, and what became of it.

    `seen_by`: the gates that rejected it. `blamed`: whether the right layer was among the first three suspects; None
    where the fault has no layer. `effect_over_budget`: what it does to the logits, over the structure gate's budget;
    None where they can't be had. `program`: the fault changes what the program computes. `proof`: what came of the
    proof; None where nothing is to be proven. `named`: whether it names an operation that was spoiled, or that reads
    what a spoiled one gives; None where it names nothing.
    """

    name: str
    says: str
    target: str
    variant: str
    stage: str
    seen_by: tuple[str, ...]
    blamed: bool | None
    effect_over_budget: float | None
    program: bool = False
    proof: Outcome | None = None
    named: bool | None = None

    @property
    def told_apart(self) -> bool:
        """The proof did not take the spoiled program for the model's. Of what it cannot read it takes none for it."""
        return self.proof is not Outcome.PROVEN

    @property
    def caught(self) -> bool:
        """Some gate rejected it."""
        return bool(self.seen_by)

    @property
    def shows(self) -> bool:
        """It moves the logits so far that it has to be caught. Where that can't be measured it is taken to."""
        return self.effect_over_budget is None or not self.effect_over_budget < _VISIBLE


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the gates did on these weights.

    `inputs`: what wrong preparations of a photo do to the answer of a right artifact, over the precision gate's budget:
    no gate of an export sees an app, the kit's picture does. `unplanted`: faults for which this model has no place, and
    targets that are not installed.
    """

    weights: Weights
    check: SelfCheck
    seed: int
    healthy: tuple[Healthy, ...]
    detections: tuple[Detection, ...]
    inputs: tuple[Detection, ...] = ()
    unplanted: tuple[str, ...] = ()

    @property
    def missed(self) -> tuple[Detection, ...]:
        """Faults that no gate saw though they show."""
        return tuple(detection for detection in self.detections if not detection.caught and detection.shows)

    @property
    def invisible(self) -> tuple[Detection, ...]:
        """Faults that no gate saw because they move no logit by more than rounding does."""
        return tuple(detection for detection in self.detections if not detection.caught and not detection.shows)

    @property
    def taken_for_equal(self) -> tuple[Detection, ...]:
        """Faults that change the program, and that the proof did not tell apart."""
        return tuple(each for each in self.detections if each.program and not each.told_apart)

    @property
    def told_apart(self) -> tuple[int, int]:
        """Of the faults that change the program: how many the proof told apart, and how many there are."""
        changed = sum(each.program for each in self.detections)
        return changed - len(self.taken_for_equal), changed

    @property
    def named(self) -> tuple[int, int]:
        """Of those that the proof told apart: how often it named the operation, and of how many."""
        told = [each.named for each in self.detections if each.program and each.named is not None]
        return sum(told), len(told)

    @property
    def false_alarms(self) -> tuple[Healthy, ...]:
        """Healthy artifacts that were rejected."""
        return tuple(artifact for artifact in self.healthy if not artifact.passed)

    @property
    def exit_code(self) -> Exit:
        """A fault that no logit shows need not be seen; one that does, must be, and the proof must see all."""
        if self.missed or self.false_alarms or self.taken_for_equal:
            return Exit.REJECTED
        return Exit.NOT_VERIFIED if self.check.by_samples else Exit.OK

    @property
    def kinds(self) -> int:
        """Different faults, by what is wrong and in which format."""
        return len({(detection.name, detection.target) for detection in self.detections})

    @property
    def blamed(self) -> tuple[int, int]:
        """Of the faults that have a layer: how often it was among the first three suspects, and how many there are."""
        told = [detection.blamed for detection in self.detections if detection.blamed is not None]
        return sum(told), len(told)

    def to_json(self) -> dict[str, Any]:
        """What `vit-export selftest --json` prints."""
        (blamed, of), (told, changed), (named, told_of) = self.blamed, self.told_apart, self.named
        found: dict[str, Any] = plain(
            {
                "weights": {
                    "source": self.weights.source,
                    "sha256": self.weights.sha256,
                    "trained": self.weights.trained,
                },
                "seed": self.seed,
                "vacuous": self.check.by_samples,
                "kinds": self.kinds,
                "planted": len(self.detections),
                "caught": sum(each.caught for each in self.detections),
                "missed": len(self.missed),
                "invisible": len(self.invisible),
                "blamed": {"right": blamed, "of": of},
                "proof": {
                    "told_apart": told,
                    "of": changed,
                    "taken_for_equal": [each.name for each in self.taken_for_equal],
                    "named": {"right": named, "of": told_of},
                },
                "healthy": self.healthy,
                "faults": self.detections,
                "wrong_inputs": {each.name: each.effect_over_budget for each in self.inputs},
                "unplanted": self.unplanted,
                "exit_code": int(self.exit_code),
            }
        )
        return found

    def _repr_html_(self) -> str:
        visible = len(self.detections) - len(self.invisible)
        caught, (told, changed) = visible - len(self.missed), self.told_apart
        facts = (
            f"{self.kinds} kinds of faults, {len(self.detections)} planted from seed {self.seed}",
            f"proof: {told} of {changed} that change the program told apart",
            f"false alarms: {len(self.false_alarms)} of {len(self.healthy)} healthy artifacts",
            f"these weights show too little: {'; '.join(self.check.by_samples)}" if self.check.by_samples else None,
        )
        rows = [
            Row((each.name, f"{each.target} {each.variant} {each.stage}"), good=False)
            for each in dict.fromkeys((*self.missed, *self.taken_for_equal))
        ]
        verdict = f"{caught} of {visible} faults caught"
        return card(f"self-test on {self.weights.source}", verdict, self.exit_code, facts, ("missed", "in"), rows)
