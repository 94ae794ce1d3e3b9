"""The page in headless Chromium: `make test-browser`. Needs a Chromium or Chrome with its driver, and `pip install selenium`."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mpo.pages.server import LocalServer, view_routes
from mpo.run_folder.paths import RunFolder
from mpo.run_folder.tables import CANDIDATES, PAIRS, SCORES, read_table, write_table

pytestmark = pytest.mark.browser
FRAME_MS = 50
NUM_MANY = 5000
SIZES = {"desktop": (1280, 1200), "phone": (390, 844)}


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium:
        options.binary_location = chromium
    browser = webdriver.Chrome(options=options, service=Service(driver) if driver else Service())
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def address(finished) -> Iterator[str]:
    """Of the page that `mpo view` serves, as a user starts it."""
    command = [sys.executable, "-m", "mpo.cli", "view", str(finished), "--no-browser"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout
        yield process.stdout.readline().split()[0]
        process.terminate()


def show(driver: Any, address: str, *, size: str = "desktop", scheme: str = "light") -> None:
    """Opens the page anew, with an empty log."""
    width, height = SIZES[size]
    emulate = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", emulate)
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get("about:blank")
    driver.get_log("browser")
    driver.get_log("performance")
    driver.get(address)
    wait(driver, "return document.querySelector('[role=tabpanel]:not([hidden]) > *') !== null")


def wait(driver: Any, condition: str, seconds: float = 30) -> Any:
    """Until a script returns something true, which is returned."""
    end = time.monotonic() + seconds
    while not (found := driver.execute_script(condition)):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        time.sleep(0.05)
    return found


def press(driver: Any, keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(driver).send_keys(keys).perform()


def hosts(driver: Any) -> set[str]:
    """All hosts that were asked for anything since the page was opened."""
    from urllib.parse import urlsplit

    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "about:"))}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_tab_loads_fits_the_window_and_asks_no_other_host(driver, address, size, scheme, tmp_path):
    show(driver, address, size=size, scheme=scheme)
    for key, tab in enumerate(("result", "pairs", "training", "candidates"), 1):
        press(driver, str(key))
        assert (
            driver.execute_script("return document.querySelector('[role=tab][aria-selected=true]').id") == f"tab-{tab}"
        )
        ready = "svg" if tab == "training" else ".card img"
        wait(driver, f"const e = document.querySelector('#panel-{tab} {ready}'); return e && (e.complete ?? true)")
        wide = driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= SIZES[size][0], f"{tab} is {wide} pixels wide"
        picture = Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"{tab}-{size}-{scheme}.png"
        driver.save_screenshot(str(picture))
        assert picture.stat().st_size > 5000
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert driver.get_log("browser") == []
    assert hosts(driver) == {address.split("/")[2]}


def test_the_report_is_the_same_page_without_a_server(driver, finished):
    show(driver, (finished / "evaluation" / "report.html").as_uri())
    for tab, inside in (
        ("result", ".card img"),
        ("pairs", ".card img"),
        ("training", "svg"),
        ("candidates", ".card img"),
    ):
        driver.execute_script(f"select('{tab}')")
        wait(driver, f"return document.querySelector('#panel-{tab} {inside}')")
    assert driver.get_log("browser") == []
    assert hosts(driver) == {""}  # the file itself


def test_filters_show_what_they_name(driver, address, finished):
    show(driver, address)
    wait(driver, "return document.querySelector('#panel-result .card')")
    outcomes = driver.execute_script("return page.result.heldout.map(row => row.outcome)")
    for value in ("1", "0.5", "0", ""):
        shown = driver.execute_script(
            "const [outcome] = document.querySelectorAll('#panel-result .controls select'); outcome.value = arguments[0];"
            "outcome.dispatchEvent(new Event('change')); return document.querySelector('#panel-result [role=status]').textContent",
            value,
        )
        expected = sum(value in ("", f"{outcome:g}") for outcome in outcomes)
        assert shown == f"{expected} of {len(outcomes)}"
    prompts = [row["prompt"] for row in driver.execute_script("return page.result.heldout")]
    press(driver, "/")
    press(driver, "RING")
    wait(
        driver,
        f"return document.querySelector('#panel-result [role=status]').textContent === '{sum('ring' in p for p in prompts)} of {len(prompts)}'",
    )
    driver.execute_script("select('pairs')")
    pairs = len(read_table(finished / "pairs.parquet", made_by="select"))
    wait(driver, f"return document.querySelector('#panel-pairs [role=status]')?.textContent === '{pairs} of {pairs}'")


def test_the_slider_uncovers_and_the_large_view_is_leafed_through_by_keys(driver, address):
    from selenium.webdriver import Keys

    show(driver, address)
    wait(driver, "return document.querySelector('#panel-result .slider input')")
    driver.execute_script("document.querySelector('#panel-result .slider input').focus()")
    press(driver, Keys.HOME)
    assert (
        driver.execute_script("return document.querySelector('#panel-result .slider').style.getPropertyValue('--at')")
        == "0%"
    )
    driver.execute_script("document.activeElement.blur()")
    press(driver, Keys.ARROW_RIGHT)
    assert driver.execute_script("return document.activeElement.className") == "card"
    press(driver, Keys.ENTER)
    first = wait(driver, "return document.querySelector('#large[open] p')?.textContent")
    assert first.startswith("1 of 4")
    press(driver, Keys.ARROW_RIGHT)
    assert wait(driver, "return document.querySelector('#large[open] p').textContent").startswith("2 of 4")
    press(driver, "s")
    assert wait(driver, "return document.querySelectorAll('#large .side-by-side img').length") == 2
    press(driver, Keys.ESCAPE)
    wait(driver, "return !document.querySelector('#large').open")


def test_every_picture_has_words_and_every_control_a_name(driver, address):
    show(driver, address)
    for tab in ("result", "pairs", "training", "candidates"):
        driver.execute_script(f"select('{tab}')")
        wait(driver, f"return document.querySelector('#panel-{tab} .card, #panel-{tab} svg')")
        nameless = driver.execute_script(
            "return [...document.querySelectorAll('img:not([alt]), video:not([aria-label]), svg:not([aria-label]), input:not([aria-label])')]"
            ".concat([...document.querySelectorAll('button')].filter(b => !b.textContent.trim() && !b.ariaLabel)).map(e => e.outerHTML.slice(0, 200))"
        )
        assert nameless == []


@pytest.fixture(scope="module")
def many(finished, tmp_path_factory) -> RunFolder:
    """A run of 5,000 pairs of 1,250 prompts: the small one's pictures over and over."""
    run = RunFolder(shutil.copytree(finished, tmp_path_factory.mktemp("many") / "run"))
    candidates = read_table(run.candidates_table, made_by="generate").to_pylist()
    scores = read_table(run.scores, made_by="score")
    rows = [candidates[k % len(candidates)] for k in range(NUM_MANY)]
    prompts = [k // 4 for k in range(NUM_MANY)]
    columns = {name: [row[name] for row in rows] for name in CANDIDATES.names}
    numbered = {"candidate_id": list(range(NUM_MANY)), "prompt_id": prompts}
    write_table(run.candidates_table, {**columns, **numbered}, CANDIDATES)
    repeated = scores.take([k % len(scores) for k in range(NUM_MANY)])
    metadata = {k.decode(): v.decode() for k, v in scores.schema.metadata.items()}
    write_table(
        run.scores,
        {**{n: repeated[n].to_pylist() for n in SCORES.names}, "candidate_id": list(range(NUM_MANY))},
        SCORES,
        metadata,
    )
    write_table(
        run.prompts,
        {"prompt_id": list(range(NUM_MANY // 4)), "prompt": [f"prompt {k}" for k in range(NUM_MANY // 4)]},
        pa.schema([("prompt_id", pa.int64()), ("prompt", pa.string())]),
    )
    total, dimensions = np.array(repeated["total"]), np.array(repeated["dimensions"].to_pylist())
    chosen, rejected = np.arange(NUM_MANY), (np.arange(NUM_MANY) // 4) * 4 + (np.arange(NUM_MANY) + 1) % 4
    pairs = {
        "pair_id": np.arange(NUM_MANY).tolist(), "prompt_id": prompts, "chosen_id": chosen.tolist(), "rejected_id": rejected.tolist(),
        "margin": (total[chosen] - total[rejected]).tolist(), "dimension_margins": (dimensions[chosen] - dimensions[rejected]).tolist(),
    }  # fmt: skip
    write_table(run.pairs, pairs, PAIRS)
    return run


def test_five_thousand_pairs_scroll_smoothly(driver, many):
    """Frames while the page scrolls by itself through some hundred cards: all but one in twenty within 50 ms."""
    with LocalServer(view_routes([many])) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        show(driver, f"{server.url}#pairs")
        wait(
            driver,
            f"return document.querySelector('#panel-pairs [role=status]')?.textContent === '{NUM_MANY} of {NUM_MANY}'",
        )
        driver.set_script_timeout(60)
        frames = driver.execute_async_script(
            "const done = arguments[0], frames = []; let last = performance.now(), left = 150;"
            "function next(now) { frames.push(now - last); last = now; scrollBy({top: 120, behavior: 'instant'}); if (left--) requestAnimationFrame(next); else done(frames); }"
            "requestAnimationFrame(next);"
        )
        cards = driver.execute_script("return document.querySelectorAll('#panel-pairs .card').length")
        server.shutdown()
    print(
        f"\nframes: median {np.median(frames):.0f} ms, 95 % {np.percentile(frames, 95):.0f} ms, longest {max(frames):.0f} ms; {cards} cards drawn"
    )
    assert np.percentile(frames, 95) < FRAME_MS
    assert cards < 200  # those out of sight are taken out again
