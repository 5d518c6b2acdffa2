"""Faults in what a Core AI asset says of itself."""

from typing import Any

from export.selftest.faults.coreai.asset import opened_metadata
from export.selftest.faults.fault import Rng, Table, in_file, pick
from runtimes.coreai.reader import CUSTOM, FIELDS, LABELS
from runtimes.interface import METADATA_PREFIX

fault = Table("coreai", in_file(opened_metadata), "fp16 coreai")

Metadata = dict[str, Any]


def _ours(metadata: Metadata) -> list[str]:
    return sorted(key for key in metadata[CUSTOM] if key.startswith(METADATA_PREFIX) and key != LABELS)


@fault("interface")
def other_digest(metadata: Metadata, rng: Rng) -> None:
    """Another digest of the weights, by one digit."""
    key = pick(rng, [key for key in _ours(metadata) if key.endswith("-sha256")])
    i, digest = int(rng.integers(64)), metadata[CUSTOM][key]
    metadata[CUSTOM][key] = f"{digest[:i]}{(int(digest[i], 16) + 1) % 16:x}{digest[i + 1 :]}"


@fault("interface")
def missing_key(metadata: Metadata, rng: Rng) -> None:
    """A key of ours left out."""
    del metadata[CUSTOM][pick(rng, _ours(metadata))]


@fault("interface")
def additional_key(metadata: Metadata, rng: Rng) -> None:
    """Something said in our name that we did not say."""
    metadata[CUSTOM][f"{METADATA_PREFIX}accuracy"] = "99.9%"


@fault("interface")
def other_field(metadata: Metadata, rng: Rng) -> None:
    """Author, license or description."""
    key = pick(rng, FIELDS)
    metadata[key] = f"{metadata[key]}."


@fault("interface")
def swapped_labels(metadata: Metadata, rng: Rng) -> None:
    """Two labels in each other's place."""
    labels = metadata[CUSTOM][LABELS]
    one, other = map(int, rng.choice(len(labels), 2, replace=False))
    labels[one], labels[other] = labels[other], labels[one]


@fault("interface")
def missing_label(metadata: Metadata, rng: Rng) -> None:
    """One label fewer: those behind it are all one off."""
    labels = metadata[CUSTOM][LABELS]
    del labels[int(rng.integers(len(labels)))]


@fault("interface")
def no_labels(metadata: Metadata, rng: Rng) -> None:
    """Labels that are no list."""
    metadata[CUSTOM][LABELS] = ", ".join(metadata[CUSTOM][LABELS])


@fault("interface")
def newer_version(metadata: Metadata, rng: Rng) -> None:
    """An asset of another form."""
    metadata["assetVersion"] = "3.0"
