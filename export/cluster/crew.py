"""The workers as a client sees them: who may work for it, what they can do, and who is left out and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from efficientvit.errors import Unavailable
from export.cluster.identity import EXTRA, differences, identity


@dataclass(frozen=True, slots=True)
class Needs:
    """The resources that a worker must have, and those that it had better not have."""

    all_of: frozenset[str]
    none_of: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return ", ".join(sorted(self.all_of)) or "any worker"


@dataclass(slots=True)
class Crew:
    """`offers`: resources of those that may work, by address. `refused`: why the others may not, by address."""

    own: Mapping[str, Any] = field(default_factory=identity)
    offers: dict[str, frozenset[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _out: dict[str, str] = field(default_factory=dict)

    def update(self, workers: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Take in what the scheduler says of its workers; those that are refused for the first time, in words."""
        self.offers, refused = {}, {}
        for address, said in workers.items():
            self._names[address] = str(said.get("name") or address)
            why = self._out.get(address) or "; ".join(differences(said.get(EXTRA), self.own))
            if why:
                refused[address] = why
            else:
                self.offers[address] = frozenset(said.get("resources") or ())
        new = [f"worker {self.called(address)} is refused: {why}" for address, why in refused.items()
               if address not in self.refused]  # fmt: skip
        self.refused = refused
        return new

    def leave_out(self, address: str, why: str) -> str:
        """Give it no more work in this run; a sentence that says so."""
        self._out[address] = why
        self.offers.pop(address, None)
        self.refused[address] = why
        return f"worker {self.called(address)} gets no more work: {why}"

    def able(self, needs: Needs) -> list[str]:
        """Addresses of the workers that have what it needs; without what they had better not have, if there are any."""
        able = [address for address, offered in self.offers.items() if needs.all_of <= offered]
        better = [address for address in able if not needs.none_of & self.offers[address]]
        return sorted(better or able)

    def called(self, address: str) -> str:
        """A worker's name and address."""
        name = self._names.get(address, address)
        return address if name == address else f"{name} ({address})"

    def nobody(self, what: str, needs: Needs, waited_s: float) -> Unavailable:
        """The error of a job for which there is no worker."""
        there = [
            f"{self.called(address)}: no {', '.join(sorted(needs.all_of - offered))}"
            for address, offered in sorted(self.offers.items())
        ]
        refused = [f"{self.called(address)}: refused, {why}" for address, why in sorted(self.refused.items())]
        return Unavailable(
            f"no worker of the cluster can take {what}",
            expected=f"one with {needs}, within {waited_s:g} s",
            got="; ".join([*there, *refused]) or "no worker at all",
            next_step="start `vit-export worker` of this version on a host that can; `vit-export doctor` there says so",
        )
