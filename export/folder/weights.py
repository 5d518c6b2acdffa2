"""The weights in a manifest: where they came from, and what they say of their input."""

from typing import Annotated

import msgspec

from export.records import Record, Sha256, says


class SaidRecord(Record, frozen=True, kw_only=True):
    """One thing that the checkpoint says of its input or its classes."""

    name: Annotated[str, says("image_size, resize, mean, std, crop_pct, crop, interpolation, classes, labels, model.")]
    value: Annotated[str, says("As an option would have it.")]
    source: Annotated[str, says("config.json, or the place in the checkpoint.")]
    taken: Annotated[bool, says("False: an option overrode it.")]


class WeightsRecord(Record, frozen=True, kw_only=True):
    """Where the weights came from."""

    source: Annotated[str, says("Address, file or seed.")]
    sha256: Annotated[Sha256, says("Of the file; of seeded weights, over names and values.")]
    trained: Annotated[bool, says("False: for trying the pipeline, not for release.")]
    fallback: Annotated[bool, says("Nobody asked for untrained weights; they are what could be had.")]
    digest_published: Annotated[bool | None, says("Whether the source publishes the digest that was verified; null "
                                                  "where nothing was downloaded.")]  # fmt: skip
    notes: Annotated[list[str], says("What was done to them on the way.")]
    average: Annotated[bool, says("They are the running average in the file, --ema.")] = False
    recovered_from: Annotated[str | None, says(
        "They are not the checkpoint's, but were fine-tuned for int8 from weights of this sha256 (vit-export recover); "
        "null where they were not. Everything is held to the recovered weights."
    )] = None  # fmt: skip
    size_assumed: Annotated[bool, says("Nothing says the input size; the published weights' was assumed.")] = False
    said: Annotated[list[SaidRecord], says("What the checkpoint says of its input.")] = msgspec.field(
        default_factory=list
    )
