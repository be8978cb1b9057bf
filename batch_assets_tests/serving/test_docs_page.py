"""The page at /docs in a real browser: it describes everything, asks, and needs no other server."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from batch_assets_tests.serving.process import ServerProcess
from batch_assets_tests.serving.small_home import key_of

PATIENCE = 60_000
"""Milliseconds that anything may take on a busy machine."""


@pytest.fixture(scope="module")
def server(scored_home: Path) -> Iterator[ServerProcess]:
    started = ServerProcess(scored_home, (), os.environ)
    yield started
    started.kill()


def test_it_lists_every_question_and_asks_one(browser: Browser, server: ServerProcess) -> None:
    document = server.client.get("/openapi.json").json()
    errors: list[str] = []
    hosts: set[str] = set()
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.extend([line.text] * (line.type == "error")))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto(f"{server.url}/docs")
        operations = page.locator("#operations details")
        expect(operations).to_have_count(sum(map(len, document["paths"].values())))
        expect(page.locator("#problems dt")).to_have_count(len(document["x-problems"]))

        one = page.locator('[id="get-/v1/fraud/predictions/{id}"]')
        one.locator("summary").click()
        one.locator("input[name=id]").fill(key_of())
        one.get_by_role("button", name="Ask").click()
        expect(one.locator("pre").last).to_contain_text(f'"transaction_id": "{key_of()}"')

        search = page.locator('[id="post-/v1/fraud/similar"]')
        search.locator("summary").click()
        search.locator("textarea").fill(f'{{"transaction_id": "{key_of()}", "k": 3}}')
        search.get_by_role("button", name="Ask").click()
        expect(search.locator("pre").last).to_contain_text('"neighbours"')

        page.goto(f"{server.url}/docs#problem-not-scored")
        expect(page.locator("#problem-not-scored")).to_be_visible()
    assert errors == []
    assert hosts == {urlsplit(server.url).netloc}
