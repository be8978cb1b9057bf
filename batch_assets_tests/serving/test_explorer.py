"""The explorer page in a real browser, over a real server and a real home."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Response, expect

import batch_assets.serving
from batch_assets.serving.app import create_app
from batch_assets.serving.served import Served
from batch_assets.settings import load_settings
from batch_assets_tests.fraud.zone import Zone
from batch_assets_tests.serving.library import LOANS, Library, day_number
from batch_assets_tests.serving.process import ServerProcess
from batch_assets_tests.serving.small_home import NEWEST, rows_of_day

FILES = Path(batch_assets.serving.__file__).parent / "explorer"
ATTACK = "<img src=x onerror=alert(1)>"
BUSY = 230
Scheme = Literal["light", "dark"]
PATIENCE = 60_000
"""Milliseconds that anything on the page may take on a busy machine."""

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def explored(scored_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scored home, one transaction of a customer whose id is HTML, many of a busy one."""
    home = tmp_path_factory.mktemp("explored") / "home"
    shutil.copytree(scored_home, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_ASSETS_HOME", str(home))
        zone = Zone(home)
        rows = [
            (f"t-busy-{n}", "busy", "shop3", f"{n + 1}.00", f"{NEWEST}T12:{n // 60:02}:{n % 60:02}")
            for n in range(BUSY)
        ]
        rows.append(("t-attack", ATTACK, "shop1", "12.50", f"{NEWEST}T11:00:00"))
        zone.deliver(NEWEST, rows, "more.csv")
        zone.pipeline().update([NEWEST])
    return home


@pytest.fixture(scope="module")
def server(explored: Path) -> Iterator[ServerProcess]:
    """Of all tests that only read."""
    started = ServerProcess(explored, (), os.environ)
    yield started
    started.kill()


@dataclass
class Seen:
    """What a page did beside what it shows."""

    servers: set[str]
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self._console(line.type, line.text))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("response", self._response)
        page.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))

    def _console(self, kind: str, text: str) -> None:
        # Chromium writes a line for each answer that is an error, which `refused` has.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.errors.append(text)

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.refused.append(response.status)


@pytest.fixture
def seen(server: ServerProcess) -> Iterator[Seen]:
    """Watches the pages of a test: no error of a script, and nobody else is asked for anything."""
    watched = Seen({urlsplit(server.url).netloc})
    yield watched
    assert watched.errors == []
    assert watched.hosts <= watched.servers


@pytest.fixture
def page(browser: Browser, seen: Seen) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        page = context.new_page()
        seen.watch(page)
        yield page


def settled(page: Page) -> None:
    """Wait until nothing is being loaded."""
    expect(page.locator("[aria-busy]")).to_have_count(0)


def open_page(page: Page, server: ServerProcess, address: str = "") -> None:
    page.goto(f"{server.url}/{address}")
    expect(page.locator("ol.alerts a").first).to_be_visible()
    settled(page)


def test_alerts_lead_to_reasons_neighbours_and_the_map(
    page: Page, server: ServerProcess, seen: Seen
) -> None:
    open_page(page, server)
    alerts = server.client.get("/v1/fraud/alerts").json()["alerts"]
    links = page.locator("ol.alerts a")
    assert links.count() == len(alerts)
    assert alerts[0]["reasons"][0] in links.first.inner_text()
    assert page.locator(".map .placed").count() == len(alerts)
    links.first.click()
    key = alerts[0]["transaction_id"]
    expect(page.locator("#detail h2")).to_have_text(f"Transaction {key}")
    expect(page.locator("#detail ol.reasons li").first).to_contain_text(alerts[0]["reasons"][0])
    settled(page)
    found = server.client.post("/v1/fraud/similar", json={"transaction_id": key}).json()
    rows = page.locator("#similar + form + div table tbody tr")
    shown = [text.split("\t") for text in rows.all_inner_texts()]
    assert [cells[1] for cells in shown] == [n["transaction_id"] for n in found["neighbours"]]
    assert [float(cells[4]) for cells in shown] == pytest.approx(
        [n["distance"] for n in found["neighbours"]], abs=1e-6
    )
    frauds = [n for n in found["neighbours"] if n["label"] == 1]
    assert rows.locator(".badge.positive").count() == len(frauds)
    for map_ in page.locator("svg.map").all():
        assert map_.locator(".placed").count() == len(found["neighbours"]) + 1
        assert map_.locator(".placed:not(.self) .mark.positive").count() == len(frauds)
        assert map_.locator(".background .mark").count() > 0
    assert seen.refused == []


def test_it_says_how_fresh_it_is_which_model_made_it_and_where_it_came_from(
    page: Page, server: ServerProcess
) -> None:
    open_page(page, server)
    fresh = server.client.get("/v1/freshness").json()["workloads"][0]
    expect(page.locator("#status")).to_contain_text(f"newest day {fresh['newest_day']}")
    expect(page.locator("#status")).to_contain_text(fresh["model_version"])
    expect(page.locator("#status .badge")).to_have_text("fresh")
    lineage = page.get_by_role("link", name="Lineage in Dagster")
    assert lineage.get_attribute("href") == (
        "http://127.0.0.1:3000/assets/fraud_predictions?view=lineage"
    )
    page.locator("ol.alerts a").first.click()
    about = page.locator("#detail .provenance")
    expect(about).to_contain_text(fresh["model_version"])
    expect(about).to_contain_text("from this server's memory")
    assert f"partition={NEWEST}" in str(about.get_by_role("link").get_attribute("href"))


def test_the_course_of_a_customer_and_of_a_terminal(page: Page, server: ServerProcess) -> None:
    for name, kind, id in (("customers", "Customer", "cust1"), ("terminals", "Terminal", "shop2")):
        open_page(page, server, f"#/fraud/{name}/{id}")
        expect(page.locator("#detail h2")).to_have_text(f"{kind} {id}")
        settled(page)
        known = server.client.get(f"/v1/fraud/{name}/{id}?limit=200").json()["predictions"]
        assert page.locator("#detail table tbody tr").count() == len(known)
        assert page.locator(".chart .mark").count() == len(known)
        assert page.locator(".chart .stem").count() == len(known)
        positives = sum(row["label"] == 1 for row in known)
        assert page.locator(".chart .mark.positive").count() == positives
        page.locator(".chart").focus()
        page.keyboard.press("End")
        expect(page.locator(".readout")).to_contain_text(known[0]["transaction_id"])
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".readout")).to_contain_text(known[1]["transaction_id"])
        page.keyboard.press("Enter")
        expect(page.locator("#detail h2")).to_contain_text(known[1]["transaction_id"])


def test_older_rows_come_when_asked_for(page: Page, server: ServerProcess) -> None:
    open_page(page, server, "#/fraud/customers/busy")
    settled(page)
    rows = page.locator("#detail table tbody tr")
    assert rows.count() == 200
    page.get_by_role("button", name="Show older ones, too").click()
    expect(rows).to_have_count(BUSY)


def test_filters_narrow_the_search_and_stand_in_the_address(
    page: Page, server: ServerProcess
) -> None:
    key = server.client.get("/v1/fraud/alerts").json()["alerts"][0]["transaction_id"]
    open_page(page, server, f"#/fraud/predictions/{key}")
    rows = page.locator("#similar + form + div table tbody tr")
    expect(rows).to_have_count(10)
    page.get_by_text("Narrow the search").click()
    page.get_by_label("neighbours", exact=True).fill("7")
    page.get_by_label("Customer", exact=True).fill("cust2")
    page.get_by_label("exact (compare with every one)").check()
    page.get_by_role("group", name="Amount, EUR").get_by_label("from").fill("20")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(rows).to_have_count(7)
    settled(page)
    for text in rows.all_inner_texts():
        cells = text.split("\t")
        assert cells[-2] == "cust2"
        assert float(cells[-3]) >= 20
    expect(page.locator("#similar + form + div")).to_contain_text("Exact: every vector")
    address = page.url
    assert "customer_id=cust2" in address
    page.get_by_role("button", name="Clear").click()
    expect(rows).to_have_count(10)
    page.go_back()
    expect(rows).to_have_count(7)
    page.goto("about:blank")
    page.goto(address)
    expect(rows).to_have_count(7)
    page.get_by_label("Customer", exact=True).fill("nobody")
    page.keyboard.press("Enter")
    expect(
        page.locator("#detail").get_by_text("No neighbours: nothing else is within these bounds.")
    ).to_be_visible()


def test_the_list_can_be_narrowed_and_another_day_picked(page: Page, server: ServerProcess) -> None:
    open_page(page, server)
    links = page.locator("ol.alerts a")
    all_of_them = links.count()
    page.get_by_label("With", exact=True).fill("cust3")
    expect(links).to_have_count(1)
    expect(page.locator("#alerts .note").first).to_have_text(f"1 of {all_of_them} alerts")
    page.get_by_label("With", exact=True).fill("no such")
    expect(page.get_by_text("None contains that")).to_be_visible()
    page.get_by_label("With", exact=True).fill("")
    page.get_by_role("button", name="Day before").click()
    before = NEWEST - timedelta(days=1)
    expect(page.locator("ol.alerts")).to_have_attribute(
        "aria-label", f"Alerts of {before}, highest score first"
    )
    assert f"day={before}" in page.url
    page.reload()
    expect(page.get_by_label("Day of the alerts")).to_have_value(str(before))
    page.goto(f"{server.url}/#/fraud?day=2031-01-01")
    expect(page.get_by_role("alert")).to_contain_text("Not scored")


def test_all_of_it_by_the_keyboard_alone(page: Page, server: ServerProcess) -> None:
    open_page(page, server)

    def focused(script: str) -> str:
        return str(page.evaluate(f"(() => {{ const e = document.activeElement; {script} }})()"))

    page.keyboard.press("Tab")
    assert focused("return e.textContent") == "Skip to the alerts"
    page.keyboard.press("Enter")
    keys = page.locator("ol.alerts a").evaluate_all("links => links.map(l => l.dataset.key)")
    assert focused("return e.dataset.key") == keys[0]
    assert focused("return getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert focused("return e.dataset.key") == keys[1]
    page.keyboard.press("End")
    assert focused("return e.dataset.key") == keys[-1]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#detail h2")).to_contain_text(keys[1])
    assert focused("return e.id") == "detail-title"
    settled(page)
    page.keyboard.press("Escape")
    expect(page.locator("#detail h2")).to_have_text("Fraud")
    assert focused("return e.dataset.key") == keys[0]
    page.keyboard.press("/")
    assert focused("return e.id") == "query"
    page.keyboard.type("cust4")
    page.keyboard.press("Enter")
    expect(page.locator("#detail h2")).to_have_text("Customer cust4")
    reached = set()
    for _ in range(400):
        page.keyboard.press("Tab")
        reached.add(focused("return e.id || e.className || e.textContent"))
        if focused("return document.activeElement === document.body") == "true":
            break
    assert {"chart", "scroll", "query", "day", "narrow", "close"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(
    browser: Browser, seen: Seen, server: ServerProcess, scheme: Scheme
) -> None:
    with browser.new_context(
        viewport={"width": 360, "height": 700}, color_scheme=scheme, has_touch=True, is_mobile=True
    ) as context:
        page = context.new_page()
        seen.watch(page)
        key = server.client.get("/v1/fraud/alerts").json()["alerts"][0]["transaction_id"]
        views = [
            "fraud",
            f"fraud/predictions/{key}?exact=1",
            "fraud/customers/cust1",
            "fraud/score",
        ]
        for address in views:
            page.goto("about:blank")
            page.goto(f"{server.url}/#/{address}")
            expect(page.locator("#detail-title")).to_be_attached()
            settled(page)
            assert page.evaluate("document.documentElement.scrollWidth") == 360, address
        expect(page.locator("#list")).to_be_hidden()
        page.get_by_role("link", name="Close").tap()
        expect(page.locator("#list")).to_be_visible()


def test_ids_are_shown_as_text(page: Page, server: ServerProcess) -> None:
    policy = server.client.get("/").headers["content-security-policy"]
    assert "'self'" in policy
    assert "unsafe" not in policy
    open_page(page, server)
    link = page.locator("ol.alerts a", has_text=ATTACK)
    expect(link).to_be_visible()
    link.click()
    expect(page.locator(".facts a", has_text=ATTACK)).to_be_visible()
    page.locator(".facts a", has_text=ATTACK).click()
    expect(page.locator("#detail h2")).to_have_text(f"Customer {ATTACK}")
    settled(page)
    page.get_by_label("Find a transaction").fill("<b>nobody</b>")
    page.keyboard.press("Enter")
    expect(page.locator("#found")).to_contain_text("Nothing here has the id <b>nobody</b>")
    assert page.locator("img, b:text('nobody')").count() == 0


def test_ids_are_found_whatever_they_are(page: Page, server: ServerProcess) -> None:
    open_page(page, server)
    key = server.client.get("/v1/fraud/alerts").json()["alerts"][0]["transaction_id"]
    for id, title in (
        (key, f"Transaction {key}"),
        ("shop0", "Terminal shop0"),
        ("cust0", "Customer cust0"),
    ):
        page.get_by_label("Find a transaction").fill(id)
        page.get_by_role("button", name="Find").click()
        expect(page.locator("#detail h2")).to_have_text(title)
    page.goto(f"{server.url}/#/fraud/predictions/unknown")
    expect(page.get_by_role("alert").first).to_contain_text("Not scored")
    page.goto(f"{server.url}/#/fraud/no/such")
    expect(page.get_by_text("This address leads nowhere here.")).to_be_visible()


def test_everything_that_can_be_used_has_a_name(page: Page, server: ServerProcess) -> None:
    key = server.client.get("/v1/fraud/alerts").json()["alerts"][0]["transaction_id"]
    for address in (f"predictions/{key}", "customers/cust1", "score"):
        open_page(page, server, f"#/fraud/{address}")
        assert page.locator("main").count() == page.locator("header").count() == 1
        for role in ("button", "link", "textbox", "searchbox", "spinbutton", "checkbox"):
            for one in page.get_by_role(role).all():
                name = one.evaluate(
                    "e => e.ariaLabel || e.textContent.trim() || (e.labels && e.labels[0] && "
                    "e.labels[0].textContent.trim()) || ''"
                )
                assert name, one.evaluate("e => e.outerHTML")


def test_a_transaction_that_no_batch_has_seen_is_scored(
    page: Page,
    seen: Seen,
    explored: Path,
    tmp_path: Path,
    start_server: Callable[..., ServerProcess],
) -> None:
    home = tmp_path / "home"
    shutil.copytree(explored, home)
    own = start_server(home)
    seen.servers.add(urlsplit(own.url).netloc)
    page.goto(f"{own.url}/#/fraud/score")
    page.get_by_label("Transaction id").fill("t-new")
    page.get_by_label("Customer id").fill("cust1")
    page.get_by_label("Terminal id").fill("shop1")
    page.get_by_label("Amount").fill("55.5")
    page.get_by_label("Currency").fill("EUR")
    page.get_by_label("Happened at").fill(f"{NEWEST + timedelta(days=1)}T10:00:00Z")
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.locator(".outcome, .problem")).to_contain_text("open t-new")
    page.get_by_role("link", name="open t-new").click()
    expect(page.locator("#detail h2")).to_have_text("Transaction t-new")
    expect(page.locator("#detail .provenance")).to_contain_text("scored in real time")
    expect(page.locator("#why + div")).to_contain_text("it can be explained once a batch has")
    settled(page)
    assert page.locator("svg.map .placed.self").count() == 2


def test_a_server_that_is_gone_is_said_in_words(
    page: Page, seen: Seen, explored: Path, start_server: Callable[..., ServerProcess]
) -> None:
    own = start_server(explored)
    seen.servers.add(urlsplit(own.url).netloc)
    open_page(page, own)
    own.stop()
    page.locator("ol.alerts a").first.click()
    expect(page.get_by_role("alert").first).to_contain_text("The server does not answer")
    again = page.get_by_role("button", name="Try again").first
    port = urlsplit(own.url).port
    start_server(explored, "--port", str(port))
    again.click()
    expect(page.locator("#detail .provenance")).to_contain_text("fresh")


def test_a_key_is_asked_for_and_sent(
    page: Page,
    seen: Seen,
    explored: Path,
    tmp_path: Path,
    start_server: Callable[..., ServerProcess],
) -> None:
    home = tmp_path / "home"
    shutil.copytree(explored, home)
    made = subprocess.run(
        [sys.executable, "-m", "batch_assets", "keys", "create", "--scope", "read", "--json"],
        env={**os.environ, "BATCH_ASSETS_HOME": str(home)},
        check=True,
        capture_output=True,
    )
    own = start_server(home, "--require-keys")
    seen.servers.add(urlsplit(own.url).netloc)
    page.goto(own.url)
    field = page.get_by_label("API key", exact=True)
    field.fill("not a key")
    page.keyboard.press("Enter")
    expect(page.locator("#key-hint")).to_contain_text("unknown to the server")
    field.fill(json.loads(made.stdout)["key"])
    page.keyboard.press("Enter")
    expect(page.locator("ol.alerts a").first).to_be_visible()
    page.reload()
    expect(page.locator("ol.alerts a").first).to_be_visible()
    assert page.evaluate("localStorage.length") == 0
    page.get_by_role("button", name="Forget the API key").click()
    expect(field).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("No API key was given")


def test_new_results_appear_by_themselves(
    page: Page, seen: Seen, own_home: Path, start_server: Callable[..., ServerProcess]
) -> None:
    own = start_server(own_home)
    seen.servers.add(urlsplit(own.url).netloc)
    open_page(page, own)
    links = page.locator("ol.alerts a")
    links.nth(1).focus()
    next_day = NEWEST + timedelta(days=1)
    zone = Zone(own_home)
    zone.deliver(next_day, rows_of_day(next_day))
    zone.pipeline().update([next_day])
    while own.client.get("/v1/freshness").json()["workloads"][0]["newest_day"] != str(next_day):
        page.wait_for_load_state()  # the server looks each second
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("ol.alerts")).to_have_attribute(
        "aria-label", f"Alerts of {next_day}, highest score first"
    )
    expect(page.locator("#status")).to_contain_text(f"newest day {next_day}")
    assert page.evaluate("document.activeElement.matches('ol.alerts a')")


def test_it_shows_whatever_workload_is_served(page: Page, seen: Seen, home: Path) -> None:
    library = Library(home)
    for n in range(3):
        library.publish(day_number(n), 40, "m1")
    settings = load_settings()
    config = uvicorn.Config(
        create_app([Served(LOANS, settings)], settings), port=0, log_config=None
    )
    served = uvicorn.Server(config)
    thread = threading.Thread(target=served.run)
    thread.start()
    try:
        while not served.started:
            thread.join(0.05)
        url = f"http://127.0.0.1:{served.servers[0].sockets[0].getsockname()[1]}"
        seen.servers.add(urlsplit(url).netloc)
        page.goto(url)
        expect(page.locator("#alerts")).to_contain_text("This workload has no alerts")
        page.get_by_label("Find a row, reader or shelf by id").fill("r3")
        page.keyboard.press("Enter")
        expect(page.locator("#detail h2")).to_have_text("Reader r3")
        expect(page.locator(".chart .mark").first).to_be_visible()
        page.locator("#detail tbody th a").first.click()
        expect(page.locator("#similar + form + div tbody tr")).to_have_count(10)
        expect(page.locator("svg.map .placed.self")).to_have_count(2)
    finally:
        served.should_exit = True
        thread.join()


def test_the_page_knows_no_workload_and_never_parses_data_as_html() -> None:
    for file in FILES.iterdir():
        text = file.read_text()
        assert not re.search(r"fraud|customer|terminal", text, re.IGNORECASE), file.name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://(?!www\.w3\.org)",
            text,
        ), file.name


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_have_contrast(scheme: int) -> None:
    """WCAG AA: 4.5 for text, 3 for marks and borders of fields."""
    blocks = re.findall(r":root \{(.*?)\}", (FILES / "style.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme]))

    def luminance(name: str) -> float:
        parts = [int(colours[name][n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    for text in ("text", "soft", "link"):
        for ground in ("ground", "sheet", "mark"):
            assert contrast(text, ground) >= 4.5, (text, ground)
    for text in ("bad", "good", "warn"):
        assert contrast(text, f"{text}-ground") >= 4.5, text
    for mark in ("high", "low", "own", "bad", "good", "focus"):
        for ground in ("ground", "sheet"):
            assert contrast(mark, ground) >= 3, (mark, ground)
