"""Commands about what was learned: list, show, diff, revert, promote, pin, delete."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from adapterd.v1 import adapters_pb2, learning_pb2
from rich.console import RenderableType

from . import documents, manifest_view, render_audit, render_comparison, render_tables
from .cli_inference import read_report
from .cli_options import (
    Address,
    AnyVersion,
    AsJson,
    ConfigFile,
    MaybeTask,
    MovingVersion,
    NumberedVersion,
    Task,
    VersionOrDrop,
    whereabouts,
)
from .client import Client
from .render import duration, errors, print_document, put, screens, titled, write_page
from .render_report import comparison, version_of

PANEL = "Versions"

commands = typer.Typer()


def _share(text: str) -> float:
    """`10%` and `0.1` as 0.1."""
    try:
        share = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise typer.BadParameter(f"{text!r} is no share between 0 and 1, like 10% or 0.1")
    return share


@commands.command("list", rich_help_panel=PANEL)
def list_versions(
    context: typer.Context,
    task: MaybeTask = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """List the versions of a task, or of all."""
    with whereabouts(context, config, address).connect() as client:
        found = client.adapters.ListVersions(adapters_pb2.ListVersionsRequest(task=task or "")).versions
    if as_json:
        print_document({"versions": [documents.version(row) for row in found]})
    elif found:
        put(render_tables.versions(found))
    else:
        errors().print(f"no versions{f' of {task}' if task else ''} yet")


@commands.command(rich_help_panel=PANEL)
def show(
    context: typer.Context,
    what: VersionOrDrop,
    findings: Annotated[
        bool, typer.Option("--findings", help="Of a drop: every row that the audit names, not the first few.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the screen there as a page.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Show a version with its figures, lineage and recipe; or a drop."""
    with whereabouts(context, config, address).connect() as client:
        if what.isdigit():
            _show_drop(client, int(what), findings, html, as_json)
        else:
            _show_version(client, what, html, as_json)


@commands.command(rich_help_panel=PANEL)
def diff(
    context: typer.Context,
    left: AnyVersion,
    right: AnyVersion,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Show how two versions differ: figures, recipe, lineage; answers that changed and weights that moved."""
    with whereabouts(context, config, address).connect() as client:
        versions = [_get(client, name) for name in (left, right)]
        comparison = _compare(client, versions)
    found = manifest_view.differences(*(json.loads(version.manifest_json or "{}") for version in versions))
    if as_json:
        rows = [
            {"section": row.section, "name": row.name, "left": row.left, "right": row.right, "change": row.change}
            for row in found
        ]
        print_document({"left": left, "right": right, "differences": rows, "comparison": comparison})
    elif found:
        put(screens(manifest_view.side_by_side(left, right, found), *render_comparison.parts(comparison or {})))
    else:
        errors().print(f"{left} and {right} do not differ")


@commands.command(rich_help_panel=PANEL)
def revert(
    context: typer.Context,
    task: Task,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="N", min=1, help="To this version; else to the previous.", show_default=False),
    ] = None,
    canary: Annotated[bool, typer.Option("--canary", help="Take the canary back; the champion stays.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Make the previous version, or an older one, the champion again; or take the canary back."""
    if canary and to is not None:
        raise typer.BadParameter("--to does not go with --canary")
    with whereabouts(context, config, address).connect() as client:
        moved = client.adapters.Revert(adapters_pb2.RevertRequest(task=task, to=to or 0, canary=canary))
    _print_moved(moved, as_json)


@commands.command(rich_help_panel=PANEL)
def promote(
    context: typer.Context,
    version: MovingVersion,
    canary: Annotated[
        float | None,
        typer.Option(
            "--canary",
            metavar="SHARE",
            help="Let it answer this share of the champion's requests first, like 10% or 0.1.",
            parser=_share,
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Make a version the champion, and the one before `previous`; or the canary beside the champion."""
    request = adapters_pb2.PromoteRequest(version=version, canary_share=canary or 0.0)
    with whereabouts(context, config, address).connect() as client:
        moved = client.adapters.Promote(request)
    _print_moved(moved, as_json)


@commands.command(rich_help_panel=PANEL)
def pin(
    context: typer.Context,
    version: NumberedVersion,
    off: Annotated[bool, typer.Option("--off", help="No longer.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Keep a version's files however old it grows: it is not deleted, by retention or by hand."""
    with whereabouts(context, config, address).connect() as client:
        found = client.adapters.Pin(adapters_pb2.PinRequest(version=version, off=off))
    if as_json:
        print_document(documents.version(found))
    else:
        put(f"{found.task}@{found.version} is {'' if found.pinned else 'no longer '}pinned")


@commands.command(rich_help_panel=PANEL)
def delete(
    context: typer.Context,
    version: NumberedVersion,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Delete a version's files for good; its number is never used again."""
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody can be asked here: add --yes if you mean it")
        typer.confirm(f"Delete {version} for good?", abort=True, err=True)
    with whereabouts(context, config, address).connect() as client:
        deleted = client.adapters.Delete(adapters_pb2.DeleteRequest(version=version))
    if as_json:
        print_document(documents.version(deleted))
    else:
        put(f"{deleted.task}@{deleted.version} is {documents.version_state(deleted.state)}")


def _put(parts: Sequence[RenderableType], html: Path | None) -> None:
    if html is None:
        put(screens(*parts))
    else:
        write_page(html, screens(*parts))


def _show_version(client: Client, name: str, html: Path | None, as_json: bool) -> None:
    found = _get(client, name)
    if as_json:
        print_document(documents.version(found))
        return
    report = read_report(client, found.task)
    evaluations = version_of(report, found.version).get("evaluations")
    manifest = json.loads(found.manifest_json or "{}")
    parts: list[RenderableType] = [render_tables.version(found)]
    if evaluations:
        parts.append(titled("figures on held-out rows", comparison(evaluations, report.get("golden", 0))))
    for key, title in manifest_view.SECTIONS.items():
        if manifest.get(key):
            parts.append(titled(title, manifest_view.section(manifest, key)))
    _put(parts, html)


def _show_drop(client: Client, number: int, findings: bool, html: Path | None, as_json: bool) -> None:
    found = client.learning.GetDrop(learning_pb2.GetDropRequest(id=number))
    named = list(client.learning.ListFindings(learning_pb2.ListFindingsRequest(drop=number))) if findings else []
    document = documents.drop(found)
    if as_json:
        print_document(document | ({"findings": [documents.finding(row) for row in named]} if findings else {}))
        return
    parts: list[RenderableType] = [render_tables.drop(found)]
    details = dict(document["details"])
    audited = details.pop("audit", None)
    if details:
        parts.append(titled("details", manifest_view.section({"details": details}, "details")))
    if audited:
        parts += render_audit.summary(audited)
    if findings:
        parts.append(titled("every finding", render_audit.findings(named)))
    _put(parts, html)


def _get(client: Client, name: str) -> adapters_pb2.Version:
    return client.adapters.GetVersion(adapters_pb2.GetVersionRequest(version=name))


def _compare(client: Client, versions: Sequence[adapters_pb2.Version]) -> dict[str, Any] | None:
    """How two versions of one task differ in what they do; None for one version, and for two tasks."""
    left, right = versions
    if left.task != right.task or left.version == right.version:
        return None
    names = (f"{version.task}@{version.version}" for version in versions)
    reply = client.adapters.Compare(adapters_pb2.CompareRequest(left=next(names), right=next(names)))
    found: dict[str, Any] = json.loads(reply.comparison_json)
    return found


def _print_moved(moved: adapters_pb2.AliasMoved, as_json: bool) -> None:
    document = documents.moved(moved)
    if as_json:
        print_document(document)
        return
    before, after = (f"{moved.task}@{document[end]}" if document[end] else "none" for end in ("from", "to"))
    put(f"{moved.alias} of {moved.task}: {before} → {after}, in {duration(moved.seconds)}")
