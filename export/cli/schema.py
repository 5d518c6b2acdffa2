"""`vit-export schema`: the form of what is written, for those who read it."""

import json

import click


@click.command()
@click.argument("document", type=click.Choice(["manifest", "device-report", "tune", "recipe", "release", "bundle"]))
def schema(document: str) -> None:
    """Print the JSON Schema of DOCUMENT: every field with its type, unit and meaning.

    \b
    vit-export schema manifest > manifest.schema.json
    """  # noqa: D301 - click wants the character itself
    if document == "manifest":
        from export.folder.schema import manifest_schema
        from export.targets.registry import TARGETS, section_types

        found = manifest_schema({name: own for name, own in section_types(TARGETS).items() if own is not None})
    elif document == "tune":
        from export.tuning.record import tune_schema

        found = tune_schema()
    elif document == "bundle":
        from export.bundle.records import index_schema

        found = index_schema()
    elif document == "recipe":
        from export.release.recipe import recipe_schema

        found = recipe_schema()
    elif document == "release":
        from export.folder.schema import schema_of
        from export.release.record import ReleaseRecord

        found = schema_of(ReleaseRecord, "vit-export release")
    else:
        from export.device_kit.device_report import device_report_schema

        found = device_report_schema()
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))
