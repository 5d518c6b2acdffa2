"""`vit-export bundle` and `vit-export verify-bundle`: a release as one signed folder."""

import datetime
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.cli.options import JSON, PATH, SUMMARY, Command, file, option, options, out, summary_to

if TYPE_CHECKING:
    from rich.console import Console

    from export.bundle.check import Checked

_SIGNING = options(
    file(
        "Signature",
        "--sign-key",
        "Private key, P-256, P-384 or P-521 in PEM. The password of an encrypted one is read from "
        "VIT_EXPORT_KEY_PASSWORD. [default: unsigned]",
    ),
    file("Signature", "--sign-certificate", "With --sign-key: the key's certificate, in PEM."),
    file(
        "Signature",
        "--sign-chain",
        "With --sign-certificate: the certificates between it and the root, in PEM. May be repeated.",
        multiple=True,
    ),
)
_TRUST = options(
    file("Signature", "--key", "Public key that the signature has to be made with, in PEM."),
    file(
        "Signature",
        "--certificate certificates",
        "Root certificate that has to certify the signer's, in PEM. May be repeated.",
        multiple=True,
    ),
    option(
        "Signature",
        "--subject",
        "With --certificate: the signer, as RFC 4514 writes it, such as 'CN=release,O=Example'. [default: whoever the "
        "root certifies]",
        metavar="NAME",
    ),
    option(
        "Signature",
        "--at",
        "With --certificate: the day on which the certificates have to be valid. [default: today]",
        type=click.DateTime(["%Y-%m-%d"]),
        metavar="YYYY-MM-DD",
    ),
    option(
        "Signature",
        "--allow-unsigned",
        "Accept a bundle that is unsigned, or whose signature is not verified because no key was named.",
        is_flag=True,
    ),
)


@click.command(cls=Command)
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=PATH)
@option("Output", "--name", "Name of the release, such as efficientvit. [default: the recipe's]", metavar="NAME")
@option("Output", "--version", "Version of the release, such as 1.2.0. [default: the recipe's]", metavar="V")
@option(
    "Output",
    "--license",
    "License of the weights, an SPDX identifier such as Apache-2.0. [default: none is stated]",
    metavar="ID",
)
@out("Folder that gets the bundle, NAME-V.", "dist", "DIST")
@option("Output", "--replace", "Take the place of a bundle that is there already. [default: refuse]", is_flag=True)
@_SIGNING
@JSON
def bundle(
    folders: tuple[Path, ...], name: str | None, version: str | None, out: Path, as_json: bool, **given: Any
) -> None:
    """Bundle finished exports DIR..., or a release that `vit-export release` made, into one folder, and sign it.

    DIST/NAME-V gets the manifest and ship/ of every DIR, an index with the SHA-256 of each file, a model card (Hugging
    Face), a bill of materials (CycloneDX), the verdicts as an in-toto statement, and a signature over all of it
    (OpenSSF model-signing). It works offline. A folder whose verdict is not passed, or whose files are not its
    manifest's, is refused, and nothing is written.

    \b
    vit-export bundle exports/* --name efficientvit --version 1.2.0 --sign-key key.pem
    vit-export bundle releases/efficientvit-1.2.0 --sign-key key.pem   what a recipe made
    openssl ecparam -name prime256v1 -genkey -noout -out key.pem       a new key
    openssl pkey -in key.pem -pubout -out key.pub                      its public half, for whoever verifies

    \b
    Exit codes
      0    the bundle was written
      1    a folder did not pass, or was changed
      2    a folder, a key or an option that cannot be used, or the bundle exists
      3    the packages of the extra `release` are not installed
    """  # noqa: D301 - click wants the character itself
    from efficientvit.errors import BadOption
    from export.bundle.make import Release
    from export.bundle.make import bundle as make
    from export.bundle.signing import PASSWORD, Signer
    from export.cli import console
    from export.release.made import asked

    key, certificate, chain = given["sign_key"], given["sign_certificate"], given["sign_chain"]
    if (certificate is not None and key is None) or (chain and certificate is None):
        raise BadOption(
            "--sign-certificate and --sign-chain go with a key",
            expected="--sign-key with --sign-certificate, and --sign-chain with both",
            got="--sign-certificate alone" if certificate is not None else "--sign-chain alone",
            next_step="add --sign-key FILE" if key is None else "add --sign-certificate FILE",
        )
    signer = None if key is None else Signer(key, certificate, chain, os.environ.get(PASSWORD))
    to_bundle = asked(folders, name, version)
    with console.console() as screen:
        with console.Live(screen) as live:
            release = Release(to_bundle.name, to_bundle.version, given["license"])
            made = make(to_bundle.folders, release, out, signer=signer, replace=given["replace"], step=live.step)
        _show_contents(screen, made.checked)
        _show_made(screen, made.checked, made.folder)
    if as_json:
        console.print_json({"folder": str(made.folder), "signed": _signed(made.checked), "index": made.checked.index})


@click.command("verify-bundle", cls=Command)
@click.argument("folder", metavar="BUNDLE", type=PATH)
@_TRUST
@SUMMARY
@JSON
def verify_bundle(folder: Path, as_json: bool, allow_unsigned: bool, summary: Path | None, **given: Any) -> None:
    """Check BUNDLE, offline: every file, what is said of them, their verdicts, and the signature.

    The index lists neither more nor less than there is, each file has its digest, each manifest's verdict is passed
    and speaks of these files, and card, bill of materials and statement say what the manifests say. With --key or
    --certificate the signature over all of it is verified; without, the signer is named and not verified.

    \b
    vit-export verify-bundle dist/efficientvit-1.2.0 --key key.pub
    vit-export verify-bundle dist/efficientvit-1.2.0 --certificate root.pem --subject CN=release,O=Example

    \b
    Exit codes
      0    all of it holds
      1    something was changed, added or removed, or the signature is missing or another one
      2    no bundle, or a key that cannot be used
      3    all but the signature holds: no key was named; or the extra `release` is not installed
    """  # noqa: D301 - click wants the character itself
    from efficientvit.errors import BadOption
    from export.bundle.check import check_bundle
    from export.bundle.signature import Trust
    from export.cli import console
    from export.commands.step_summary import of_bundle
    from export.records import plain

    page = summary_to(summary, f"vit-export verify-bundle {folder.resolve().name}")
    key, certificates, at = given["key"], given["certificates"], given["at"]
    if (key is not None and certificates) or ((given["subject"] or at) and not certificates):
        raise BadOption(
            "--key excludes --certificate; --subject and --at go with --certificate",
            expected="a key, or a root certificate",
            got="--key and --certificate" if key is not None and certificates else "--subject or --at alone",
            next_step="name what the signer has published",
        )
    day = None if at is None else at.replace(hour=12, tzinfo=datetime.UTC)
    checked = check_bundle(folder, Trust(key, certificates, given["subject"], day), allow_unsigned=allow_unsigned)
    with console.console() as screen:
        _show_contents(screen, checked)
        _show_checked(screen, checked)
    found = _record(checked)
    page.add(checked.code, of_bundle(plain(found)))
    if as_json:
        console.print_json(found)
    sys.exit(int(checked.code))


def _record(checked: "Checked") -> dict[str, Any]:
    """What `vit-export verify-bundle --json` prints."""
    index = checked.index
    return {
        "bundle": str(checked.folder),
        "name": None if index is None else index.name,
        "version": None if index is None else index.version,
        "artifacts": None if index is None else index.artifacts,
        "signed": _signed(checked),
        "problems": [{"file": each.file, "problem": each.what} for each in checked.problems],
        "notes": checked.notes,
        "exit_code": int(checked.code),
    }


def _signed(checked: "Checked") -> dict[str, Any] | None:
    signed = checked.signed
    if signed is None:
        return None
    return {
        "by": signed.by,
        "sha256": signed.fingerprint,
        "subject": signed.subject,
        "issuer": signed.issuer,
        "expires": None if signed.expires is None else signed.expires.isoformat(),
        "verified": signed.verified,
    }


def _show_contents(screen: "Console", checked: "Checked") -> None:
    """The artifacts, as the index has them."""
    from rich.table import Table
    from rich.text import Text

    from export.bundle.records import bytes_of
    from export.cli.console import BANNER, STYLE

    if (index := checked.index) is None:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("artifact", "format", "weights", "MB", "verdict", "evidence"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "MB" else "left")
    for each in index.artifacts:
        size, word = f"{each.bytes / 1e6:.2f}", Text(each.status, STYLE.get(each.status, ""))
        table.add_row(each.name, each.format, str(each.precision.weights), size, word, str(each.evidence))
    screen.print(table)
    what = f"{index.name} {index.version}: {len(index.files)} files, {bytes_of(index.files) / 1e6:.1f} MB"
    screen.print(Text(f"{what}, license {index.license or 'not stated'}", "dim"))
    if not all(each.trained for each in index.artifacts):
        screen.print(Text(f" {BANNER} ", "bold black on yellow"))


def _show_made(screen: "Console", checked: "Checked", folder: Path) -> None:
    """Where it is, who signed it, and how to check it."""
    from rich.text import Text

    signed, option = checked.signed, "--allow-unsigned"
    if signed is None:
        screen.print(Text("UNSIGNED: nobody can tell who released it (--sign-key)", "bold yellow"))
    else:
        option = "--key PUBLIC_KEY" if signed.by == "key" else "--certificate ROOT"
        screen.print(Text(f"signed: {signed}", "green"), soft_wrap=True)
    screen.print(Text(f"{folder}\n  check it with: vit-export verify-bundle {folder} {option}"), soft_wrap=True)


def _show_checked(screen: "Console", checked: "Checked") -> None:
    """Whose signature it is, and everything that is wrong."""
    from rich.text import Text

    from export.exits import Exit

    signed = checked.signed
    if signed is not None:
        word, style = ("signature verified", "green") if signed.verified else ("signature NOT VERIFIED", "bold yellow")
        screen.print(Text(f"{word}: {signed}", style), soft_wrap=True)
    elif not checked.problems:
        screen.print(Text("UNSIGNED: nobody can tell who released it", "bold yellow"))
    for note in checked.notes:
        screen.print(Text(f"  {note}", "yellow"), soft_wrap=True)
    for problem in checked.problems:
        screen.print(Text(f"  {problem}", "red"), soft_wrap=True)
    if checked.problems:
        many = "1 problem" if len(checked.problems) == 1 else f"{len(checked.problems)} problems"
        screen.print(Text(f" {checked.folder}: REFUSED, {many} ", "bold white on red"), soft_wrap=True)
    elif checked.code is Exit.OK:
        screen.print(Text(f"{checked.folder}: everything in it holds", "green"), soft_wrap=True)
    else:
        text = "the files hold; name the signer's public key with --key, or a root with --certificate"
        screen.print(Text(f"{checked.folder}: {text}", "yellow"), soft_wrap=True)
