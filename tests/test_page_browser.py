"""The page in a real Chromium: by mouse, by keyboard alone, on a narrow screen, with a microphone, and offline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from page_project import LANGUAGES, page_project

from docs.make_page_images import ARGUMENTS, find_chromium
from faults.served import Served, serve, temporary

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make setup`")
from playwright.sync_api import Browser, Page, expect  # noqa: E402

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH (Debian: apt install chromium)")
WAIT_MS = 60_000  # a busy machine needs some of it
NAMES = ("Spanish", "Finnish", "Portuguese")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_project(tmp_path_factory)


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with serve(folder) as one:
        yield one
    assert not [line for line in one.lines if "Traceback" in line], one.lines
    assert sorted(temporary(folder).iterdir()) == []


@pytest.fixture(scope="module")
def spoken(folder: Path) -> Path:
    """Four seconds of a voice; the microphone hears them too."""
    return folder.parent / "spoken.wav"


@pytest.fixture(scope="module")
def browser(spoken: Path) -> Iterator[Browser]:
    with playwright_api.sync_playwright() as playwright:
        one = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                *ARGUMENTS,
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={spoken}",
            ],
        )
        yield one
        one.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The first page; it may ask nobody but the server, break no rule of its policy, and throw nothing."""
    context = browser.new_context(viewport={"width": 1100, "height": 800}, permissions=["microphone"])
    context.set_default_timeout(WAIT_MS)
    one = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    one.on("pageerror", lambda error: complaints.append(str(error)))
    one.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    one.on("request", lambda request: asked.append(request.url))
    one.goto(served.url)
    yield one
    context.close()
    # Chromium itself puts a refused upload on the console
    assert [text for text in complaints if "the server responded with a status of" not in text] == []
    assert [url for url in asked if not url.startswith((served.url, f"blob:{served.url}"))] == []


def drop(page: Page, *paths: Path) -> None:
    """As from a file manager: Chromium itself reads the files."""
    box = page.locator("#drop").bounding_box()
    assert box
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": box["x"] + 20, "y": box["y"] + 20, "data": data})


def is_answered(page: Page) -> None:
    expect(page.locator("#result")).to_be_visible(timeout=WAIT_MS)
    assert any(name in page.locator("#verdict").inner_text() for name in NAMES)
    assert page.locator("#ranking li").count() == len(LANGUAGES)
    expect(page.locator("#fault")).to_be_empty()


def lit_pixels(page: Page) -> int:
    """Pixels of the spectrogram that are not black."""
    script = """() => {
        const canvas = document.getElementById("canvas");
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let lit = 0;
        for (let i = 0; i < pixels.length; i += 4) lit += pixels[i] > 60;
        return lit;
    }"""
    return int(page.evaluate(script))


def test_a_file_is_dropped(page: Page, spoken: Path) -> None:
    drop(page, spoken)
    is_answered(page)
    assert re.search(r"\d % (sure )?· 4.0 s of sound, \d\.\d s of it speech", page.locator("#sureness").inner_text())
    assert page.locator("#source").inner_text() == "spoken.wav"
    assert lit_pixels(page) > 5000
    # for those who hear the page: the answer is announced
    assert page.locator("#verdict").inner_text() in page.locator("#status").inner_text()
    before = lit_pixels(page)
    page.locator("#explain").click()
    expect(page.locator("#explain")).to_have_attribute("aria-pressed", "true", timeout=WAIT_MS)
    expect(page.locator("#caption")).to_contain_text("without which the model would be less sure")
    assert 0 < lit_pixels(page) < before
    part = page.locator("#track button").first
    assert part.inner_text() in NAMES
    assert page.locator("#timeline tbody tr").count() == page.locator("#track button").count()
    page.locator("#picture").click(position={"x": 5, "y": 20})
    expect(page.locator("#cursor")).to_be_visible()  # it plays from there
    assert page.locator("#player").evaluate("player => !player.paused")


def test_a_bad_file_is_dropped(page: Page, spoken: Path, tmp_path: Path) -> None:
    bad = tmp_path / "<img src=x onerror=alert(1)>.mp3"
    bad.write_bytes(b"no sound at all" * 100)
    drop(page, bad)
    fault = page.get_by_role("alert")
    expect(fault).to_have_text(
        "This file holds no sound that can be read. Choose a recording, such as an MP3, WAV or OGG file.",
        timeout=WAIT_MS,
    )
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("body.busy")).to_have_count(0)
    (tmp_path / "empty.wav").touch()
    drop(page, tmp_path / "empty.wav")
    expect(fault).to_have_text("The file is empty. Choose another one.")
    drop(page, spoken, bad)
    is_answered(page)
    assert page.locator("#source").inner_text() == "spoken.wav (the first of 2 files)"


def test_no_speech(page: Page, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "hiss.wav", 0.1 * np.random.default_rng(0).standard_normal(32000), 16000)
    drop(page, tmp_path / "hiss.wav")
    expect(page.locator("#verdict")).to_have_text("No speech", timeout=WAIT_MS)
    expect(page.locator("#believed")).to_be_hidden()
    page.locator("summary").first.click()
    page.locator("#all-sound").check()
    expect(page.locator("#believed")).to_be_visible(timeout=WAIT_MS)
    is_answered(page)


def test_a_file_that_is_too_large_is_not_even_sent(page: Page, tmp_path: Path) -> None:
    with (tmp_path / "large.wav").open("wb") as handle:
        handle.truncate(65_000_000)
    drop(page, tmp_path / "large.wav")
    expect(page.get_by_role("alert")).to_have_text(
        "The recording is too large: 65 MB, and 64 MB are the limit. Cut it, or save it as MP3."
    )


def focused(page: Page) -> str:
    return str(page.evaluate("(e => e.id || e.textContent.trim())(document.activeElement)"))


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until it is reached; each stop must be seen."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page) == wanted:
            return
    raise AssertionError(f"{wanted} cannot be reached by Tab")


def test_keyboard_alone(page: Page, spoken: Path) -> None:
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    # Tab inside the block: its round trips see to it that the browser hands choosers over before Space asks for one
    with page.expect_file_chooser() as chooser:
        tab_to(page, "file")
        page.keyboard.press("Space")
    chooser.value.set_files(spoken)
    is_answered(page)
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
    expect(page.locator("#restricted")).to_have_text("(only 1 of the languages, all sound)")
    expect(page.locator("#ranking li")).to_have_count(1, timeout=WAIT_MS)
    # and on to the evaluation's table
    page.keyboard.press("Home")
    page.get_by_role("link", name="Evaluation", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/evaluation")
    tab_to(page, "Language")
    column = page.locator("table.languages tbody th")
    before = column.all_inner_texts()
    page.keyboard.press("Enter")
    assert column.all_inner_texts() == before[::-1]
    assert page.locator("table.languages th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_the_microphone(page: Page) -> None:
    record = page.locator("#record")
    record.focus()
    page.keyboard.press("Enter")
    expect(record).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#clock")).to_have_text("0:02", timeout=WAIT_MS)
    assert float(page.locator("#level").evaluate("meter => meter.value")) > 0.1
    page.keyboard.press("Enter")
    is_answered(page)
    assert page.locator("#source").inner_text() == "your recording"
    assert lit_pixels(page) > 5000
    # begun again, and discarded
    record.click()
    expect(record).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(record).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#status")).to_have_text("The recording was discarded.")


def test_no_microphone_allowed(browser: Browser, served: Served) -> None:
    with browser.new_context(permissions=[]) as context:
        own = context.new_page()
        own.goto(served.url)
        own.locator("#record").click()
        expect(own.get_by_role("alert")).to_contain_text("microphone", timeout=WAIT_MS)


@pytest.mark.parametrize("width", [320, 390])
def test_a_narrow_screen(browser: Browser, served: Served, spoken: Path, width: int) -> None:
    with browser.new_context(viewport={"width": width, "height": 640}, color_scheme="dark") as context:
        own = context.new_page()
        for path in ("", "evaluation", "experiments"):
            own.goto(served.url + path)
            if not path:
                own.set_input_files("#file", spoken)
                is_answered(own)
            assert own.evaluate("document.documentElement.scrollWidth") <= width, path
            small = own.locator("button:visible, label.button:visible").evaluate_all(
                "all => all.filter(e => e.getBoundingClientRect().height < 24).map(e => e.textContent)"
            )
            assert small == [], path  # WCAG 2.5.8: targets of 24 pixels


def test_mistakes_can_be_heard_and_looked_at(page: Page, served: Served) -> None:
    page.goto(served.url + "evaluation")
    first = page.locator(".play").first
    first.click()
    expect(page.locator(".mistakes ~ .status")).to_contain_text("Playing", timeout=WAIT_MS)
    expect(first).to_have_attribute("aria-pressed", "true")
    first.click()
    expect(first).to_have_attribute("aria-pressed", "false")
    page.locator(".clips a").first.click()
    is_answered(page)
    assert page.locator("#source").inner_text().startswith("clip ")


def test_experiments_are_compared(page: Page, served: Served) -> None:
    page.goto(served.url + "experiments")
    rows = page.locator("table.experiments tbody tr")
    expect(rows).to_have_count(2, timeout=60_000)
    expect(rows.nth(1)).to_contain_text("baseline")  # the last commit
    expect(rows.nth(0)).to_contain_text("the same")
    expect(rows.nth(0)).to_contain_text("train.epochs 3 was 2")
    page.get_by_label("Compare with").select_option(label="working folder")
    expect(rows.nth(0)).to_contain_text("baseline")
    expect(rows.nth(1)).to_contain_text("train.epochs 2 was 3")
    page.get_by_role("button", name="Experiment").focus()
    page.keyboard.press("Enter")
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Experiment")


def test_colours_are_told_apart() -> None:
    """The timeline's colours, as eyes of all kinds see them (Viénot, Brettel and Mollon 1999, in linear RGB)."""
    css = (Path(__file__).parent.parent / "app/page/static/page.css").read_text()
    colours = [line.split("#")[1][:6] for line in css.splitlines() if line.startswith(".colour-")]
    assert len(colours) == 7
    rgb = np.array([[int(one[i : i + 2], 16) / 255 for i in (0, 2, 4)] for one in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    for seen in (linear, linear @ protan.T, linear @ deutan.T):
        lab = _lab(np.clip(seen, 0, 1))
        apart = [np.linalg.norm(a - b) for i, a in enumerate(lab) for b in lab[i + 1 :]]
        assert min(apart) > 8, min(apart)


def _lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB, (n, 3)."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
