"""Commands that take a version's files out, and an adapter that was trained elsewhere in: export, import."""

from pathlib import Path
from typing import Annotated

import typer
from adapterd.v1 import adapters_pb2

from . import documents
from .cli_options import Address, AnyVersion, AsJson, ConfigFile, Task, whereabouts
from .cli_versions import PANEL
from .peft_folder import adapter_files, fresh_folder, import_requests
from .render import print_document, put, size
from .transfer import unpack

commands = typer.Typer()

_MAX_EXPORT_BYTES = 1 << 50  # a merged base is as large as the base; the daemon is ours, so this is no defence


@commands.command(rich_help_panel=PANEL)
def export(
    context: typer.Context,
    version: AnyVersion,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that is empty or does not exist.", show_default=False)
    ],
    merge: Annotated[bool, typer.Option("--merge", help="The base with the adapter merged into it.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Copy a version's folder out: it loads in plain PEFT and vLLM, and with --merge in plain transformers."""
    with whereabouts(context, config, address).connect() as client, fresh_folder(folder) as temp:
        pieces = client.adapters.Export(adapters_pb2.ExportRequest(version=version, merge=merge))
        files = unpack((piece.chunk for piece in pieces), temp, max_bytes=_MAX_EXPORT_BYTES)
        written = {path.name: path.stat().st_size for path in files}
    if as_json:
        print_document({"version": version, "folder": str(folder.resolve()), "merged": merge, "files": written})
    else:
        put(f"{version} lies in {folder}: {len(written)} files, {size(sum(written.values()))}")


@commands.command("import", rich_help_panel=PANEL)
def import_folder(
    context: typer.Context,
    task: Task,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A folder as PEFT saves it.", exists=True, file_okay=False, show_default=False
        ),
    ],
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Take an adapter that was trained elsewhere as a candidate of a task."""
    adapter_files(folder)  # complains here, not amid the stream
    with whereabouts(context, config, address).connect() as client:
        taken = client.adapters.Import(import_requests(task, folder))
    name = f"{taken.task}@{taken.version}"
    if as_json:
        print_document(documents.version(taken))
    else:
        state = documents.version_state(taken.state)
        put(f"{name} is a {state}; `adapterd promote {name}` makes it champion")
