"""``batch-assets serve`` and ``batch-assets keys ...``: the server, and who may ask it."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batch_assets.errors import BatchAssetsError
from batch_assets.settings import load_settings
from batch_assets.show import Json, console, print_json

if TYPE_CHECKING:
    from batch_assets.serving.security import ApiKey, KeyFile

keys = typer.Typer(name="keys", help="API keys of the server: who may ask it, and for what.")
out = console(sys.stdout)


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    SCORE = "score"


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; all but loopback need API keys.")
    ] = "127.0.0.1",
    require_keys: Annotated[
        bool, typer.Option("--require-keys", help="Ask for API keys on loopback, too.")
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Answer to this name, too, say behind a proxy."),
    ] = None,
    access_log: Annotated[bool, typer.Option(help="Write a line a request to stderr.")] = True,
) -> None:
    """Serve predictions over HTTP: the explorer page at /, the API's description at /docs."""
    try:
        from batch_assets.serving.server import Address
        from batch_assets.serving.server import serve as serve_workloads
    except ModuleNotFoundError as error:
        raise BatchAssetsError(
            f"{error.name} is not installed: pip install 'batch_assets[serving]'"
        ) from error
    from batch_assets.fraud.served import fraud_workload
    from batch_assets.serving.served import Served

    settings = load_settings()
    address = Address(host, port, tuple(allow_host or ()), require_keys)
    serve_workloads(
        [Served(fraud_workload(), settings)],
        settings,
        address,
        access_log=access_log,
        ready=lambda url: print(f"listening on {url}", flush=True),
    )


@keys.command()
def create(
    scope: Annotated[list[Scope], typer.Option(help="What it allows; may be given twice.")],
    name: Annotated[str, typer.Option(help="Whose it is, for the list.")] = "",
    as_json: Json = False,
) -> None:
    """Make a key. It is shown once: what is kept does not give it back."""
    key, token = _file().create(name, scope)
    if as_json:
        return print_json({**_shown(key), "key": token})
    print(token)
    console(sys.stderr).print(f"{key.id}: {' and '.join(key.scopes)}; it is not shown again")


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """All keys: their ids, names, scopes, and since when; not the keys themselves."""
    found = [_shown(key) for key in _file().read()]
    if as_json:
        return print_json(found)
    for one in found:
        out.print(
            f"{one['id']}  {','.join(one['scopes']):10}  {one['created_at']}  {one['name']}",
            markup=False,
            highlight=False,
        )
    if not found:
        out.print("there is no key yet; `batch-assets keys create --scope read` makes one")


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    as_json: Json = False,
) -> None:
    """Take a key back; servers that run refuse it within a second."""
    gone = _file().revoke(key)
    if as_json:
        return print_json(_shown(gone))
    out.print(f"{gone.id} is revoked", markup=False, highlight=False)


def _file() -> "KeyFile":
    from batch_assets.serving.security import FOLDER, KeyFile

    return KeyFile(load_settings().home / FOLDER)


def _shown(key: "ApiKey") -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": key.created_at,
    }
