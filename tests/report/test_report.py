"""The report: a self-contained file with an interactive map."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from super_selfish import load
from super_selfish.errors import CheckpointError
from super_selfish.report.gallery import Gallery
from super_selfish.report.sections import curve, curves
from super_selfish.reports import report
from super_selfish.supervisors import ExemplarNetSupervisor, RotateNetSupervisor, all_supervisors
from super_selfish.training import Column


@pytest.fixture
def page() -> Path:
    """A report of a short training, on images in two folders."""
    for number in range(12):
        place = Path("photos", "ab"[number % 2])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)).save(
            place / f"{number}.png"
        )
    supervisor = RotateNetSupervisor("photos", resolution=32, backbone="small_resnet")
    supervisor.supervise(epochs=4, batch_size=4, lr=1e-9, watch=8, verbose=False)
    return report("store/base", "photos", count=10)


def test_report_is_self_contained(page: Path) -> None:
    text = page.read_text()
    assert page == Path("store/base.html")
    expected_texts = ("RotateNet: base", "Effective rank", "training: batch_size", "trained with torch")
    for expected in (*expected_texts, "By which angle is the image rotated?", "on 12 images"):
        assert expected in text
    assert text.count('<li class="warn">') == 1, "the loss stays at the chance level"
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "://" not in text
    embedded = json.loads(re.search(r'id="images">(.*?)</script>', text)[1])  # type: ignore[index]
    assert len(embedded["images"]) == 10
    assert {label for _, label in embedded["images"]} == {"a", "b"}
    assert text.count('class="row"') == 8


def test_report_without_images(page: Path) -> None:
    text = report("store/base", path="other.html").read_text()
    assert "super-selfish report NAME DATA" in text
    assert '<svg id="map"' not in text
    assert page.is_file()


def test_file_and_class_names_are_escaped() -> None:
    folders = [Path("bad", name) for name in ("<i>&", "'\"<script>")]
    for number, folder in enumerate(folders * 2):
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number * 60,) * 3).save(folder / f'<b>&"{number}.png')
    RotateNetSupervisor("bad", resolution=32, backbone="small_resnet").supervise(epochs=1, batch_size=2, verbose=False)
    text = report("store/base", "bad").read_text()
    for raw in ("<b>", "<i>", '"<script>'):
        assert raw not in text
    assert "&lt;b&gt;&amp;&#34;0.png" in text
    embedded = json.loads(re.search(r'id="images">(.*?)</script>', text)[1])  # type: ignore[index]
    assert {label for _, label in embedded["images"]} == {folder.name for folder in folders}


def test_unknown_name_raises() -> None:
    with pytest.raises(CheckpointError, match="store/none"):
        report("store/none")


@pytest.mark.parametrize("algorithm", all_supervisors())
def test_chance_level_without_images_is_that_of_the_training(algorithm: str) -> None:
    algorithm_class = all_supervisors()[algorithm]
    side = max(32, algorithm_class.needs.side)
    images = np.random.default_rng(0).integers(0, 256, (6, side, side, 3), np.uint8)
    supervisor = algorithm_class(images, backbone="small_resnet")
    supervisor.supervise(epochs=1, batch_size=3, watch=0, checkpoint_every=0, verbose=False)
    loaded, expected = load("store/base"), supervisor._expected_loss()
    assert loaded._expected_loss() == expected
    (loss,) = [curve for curve in curves(loaded) if curve.measure.title == "Loss"]
    shown = None if expected.chance is None else f"{expected.chance:.4g}"
    assert (None if loss.chance is None else loss.chance[1]) == shown


def test_diagnosis_without_images_has_the_chance_level_of_the_training() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    supervisor = ExemplarNetSupervisor(images, backbone="small_resnet")
    supervisor.supervise(epochs=3, batch_size=3, lr=1e-9, watch=0, verbose=False)
    text = report("store/base").read_text()
    assert "the loss at chance level is 1.792" in text
    assert "dashed: chance level, 1.792" in text


def test_scores_of_other_weights_are_not_shown(page: Path) -> None:
    weights = load("store/base").stored["sha256"]
    row = {"knn": {"mean": 0.5, "sd": 0.25, "protocol": "p"}, "probe": {"mean": 1.0, "sd": 0.0, "protocol": "p"}}
    row["quality"] = {"effective_rank": 3.0, "dimensions": 8}
    for hashed in (weights, "other"):
        stored = {"weights": hashed, "protocol": "p", "scores": {"trained": row}}
        stored["verdicts"] = [{"text": "Features are worse than pixels.", "better": False}]
        Path("store/base.scores.json").write_text(json.dumps(stored))
        text = report("store/base").read_text()
        assert ("50.0 % ± 25.0" in text) == (hashed == weights)
        assert ('<li class="warn">Features are worse than pixels.</li>' in text) == (hashed == weights)


def test_curve_is_within_the_axes() -> None:
    for points in ([(3, 2.0)], [(1, 1.0), (2, 1.0)], [(1, 4.0), (2, -1e6), (9, 0.5)]):
        drawn = curve(Column("Loss"), points, chance=2.0)
        assert all(40 < x < 320 and 0 < y < 150 for x, y, _, _ in drawn.points)
        assert drawn.chance is not None
        assert 0 < drawn.chance[0] < 150


def test_class_names_on_the_map_do_not_overlap() -> None:
    labels = [f"class {number}" for number in range(10)] * 3
    points = np.full((30, 2), 200.0) + np.arange(30)[:, None]
    placed = Gallery([""] * 30, labels, "", 1, points, []).class_positions()
    assert {name.text for name in placed} == set(labels)
    assert min(np.diff([name.y for name in placed])) >= 12
    assert Gallery([""] * 30, [], "", 1, points, []).class_positions() == []


@pytest.fixture
def browser() -> Iterator[Any]:
    """A headless Chromium that records the console log of pages."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 380])
def test_map_is_interactive_in_a_browser(page: Path, browser: Any, width: int) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.resolve().as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    seen = set()
    for mark in browser.find_elements("css selector", "#map use")[:4]:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", mark)
        ActionChains(browser).move_to_element(mark).perform()
        name = browser.find_element("css selector", "#shown .name").text
        assert re.fullmatch(r"[ab]/\d+\.png — [ab]", name)
        place = browser.find_element("id", "shown").get_attribute("data-n")
        seen.add((place, browser.find_element("css selector", "#shown .tile").get_attribute("style")))
    assert len(seen) == 4
    assert browser.get_log("browser") == []
