"""`vit-export release --dry-run`: what will be made, where, and what evidence this host can give. Makes nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.commands.doctor import Ability, examine
from export.exits import Exit, worst
from export.release.artifacts import Artifact, artifacts_of
from export.release.matrix import folder_of
from export.release.recipe import Recipe, read_recipe
from export.report.card import Row, card
from runtimes.runtime import Evidence

COLUMNS = ("artifact", "evidence", "required", "what is missing")


@dataclass(frozen=True, slots=True)
class Planned:
    """One artifact, and what can be done for it here. `evidence`: None where it cannot even be made."""

    artifact: Artifact
    ability: Ability

    @property
    def evidence(self) -> Evidence | None:
        """The best that a verdict can rest on here."""
        if not self.ability.can_make:
            return None
        return self.ability.evidence or Evidence.BUILT

    @property
    def required(self) -> Evidence:
        """What exit code 0 needs."""
        return self.artifact.request.required

    @property
    def folder(self) -> Path:
        """Where it will be, as far as that is known without its checkpoint."""
        return self.artifact.request.out / self.artifact.name

    @property
    def missing(self) -> str | None:
        """Why exit code 0 is out of reach here, and what would help; None where it is not."""
        if self.evidence is not None and self.evidence.at_least(self.required):
            return None
        return self.ability.remedy or f"{self.required} evidence: no runtime on this host gives it"

    @property
    def exit_code(self) -> Exit:
        """The best that this artifact can exit with here."""
        return Exit.OK if self.missing is None else Exit.NOT_VERIFIED


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe on this host."""

    recipe: Recipe
    out: Path
    artifacts: tuple[Planned, ...]

    @property
    def exit_code(self) -> Exit:
        """The best that the release can exit with here."""
        return worst(each.exit_code for each in self.artifacts)

    def to_json(self) -> dict[str, Any]:
        """What `vit-export release --dry-run --json` prints."""
        return {
            "name": self.recipe.name,
            "version": self.recipe.version,
            "recipe": {"path": str(self.recipe.path), "sha256": self.recipe.sha256},
            "out": str(self.out),
            "exit_code": int(self.exit_code),
            "artifacts": [
                {
                    "name": each.artifact.name,
                    "model": each.artifact.job.model,
                    "target": each.artifact.job.target.name,
                    "precision": each.artifact.job.precision,
                    "folder": str(each.folder),
                    "evidence": each.evidence,
                    "evidence_required": each.required,
                    "missing": each.missing,
                    "command": list(each.artifact.command),
                }
                for each in self.artifacts
            ],
        }

    def _repr_html_(self) -> str:
        good = sum(each.missing is None for each in self.artifacts)
        verdict = f"{good} of {len(self.artifacts)} can be ready here"
        rows = [Row(cells(each), each.missing is None) for each in self.artifacts]
        title = f"{self.recipe.name} {self.recipe.version}, not made yet"
        return card(title, verdict, self.exit_code, (f"into {self.out}",), COLUMNS, rows)


def cells(each: Planned) -> tuple[str, ...]:
    """A row under `COLUMNS`."""
    evidence = "cannot be made" if each.evidence is None else str(each.evidence)
    return each.artifact.name, evidence, str(each.required), each.missing or ""


def plan(recipe: Path, out: Path | None = None) -> Plan:
    """What a recipe asks for, and what this host can do of it. `out`: in the place of the recipe's folder.

    Raises:
        BadRecipe: the recipe cannot be used.
        StageFailed: an installed target that it asks for cannot be used.
    """
    read = read_recipe(recipe)
    artifacts = artifacts_of(read, out)
    _, abilities = examine()
    by_target = {each.target: each for each in abilities}
    found = tuple(Planned(each, by_target[each.job.target.name]) for each in artifacts)
    return Plan(read, folder_of(read) if out is None else out, found)
