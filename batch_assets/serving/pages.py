"""The explorer at ``/`` and the API's description at ``/docs``: files of this package."""

from pathlib import Path

from fastapi import APIRouter, Response

from batch_assets.serving.problems import Problem

FOLDER = Path(__file__).parent
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGES = {"/": "explorer", "/docs": "docs"}


def page_routes() -> APIRouter:
    """Each page at its path, and the files beside it below ``/<folder>/``."""
    router = APIRouter(include_in_schema=False)
    for path, folder in PAGES.items():
        _page(router, path, FOLDER / folder / "index.html")
        for file in sorted((FOLDER / folder).glob("*")):
            if file.suffix in TYPES and file.name != "index.html":
                _page(router, f"/{folder}/{file.name}", file)
    return router


def _page(router: APIRouter, path: str, file: Path) -> None:
    content = file.read_bytes() if file.exists() else None
    media_type = TYPES[file.suffix]

    @router.get(path)
    async def page() -> Response:
        if content is None:
            raise Problem("no-such-path", "this page is not installed; /docs describes the API")
        return Response(content, media_type=media_type)
