"""The page of sample rows: which rows, what is drawn where, texts that stay texts, and how it looks in a browser."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from open_r1 import check, convert
from open_r1.data.jsonl_dataset import RecordDataset, load_records
from open_r1.errors import DataError
from open_r1.report.preview import PREVIEW_ROWS, sample_records, write_preview

HOSTILE = "</pre><script>alert(1)</script><svg onload=alert(2)> &lt; \u2028 \0 {{ 7 * 7 }}"
BOXES = json.dumps([{"bbox_2d": [30, 40, 150, 120], "label": "<b>cat</b>"}, {"bbox_2d": [0, 0, 9, 9], "label": "dog"}])
POLYGON = '{"centre": [150, 100], "coeffs": [40, 0, 5], "size": [200, 300]}'


def row(solution: object, method: str = "rec", **fields: Any) -> dict[str, Any]:
    known = {"problem": "Where?", "solution": solution, "image": "a.png", "accu_reward_method": method}
    return {**known, **fields}


def dataset(folder: Path, *rows: dict[str, Any]) -> RecordDataset:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (300, 200), "navy").save(folder / name)
    (folder / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return load_records(str(folder / "rows.jsonl"), str(folder))


def page_of(folder: Path, *rows: dict[str, Any]) -> str:
    return write_preview(dataset(folder, *rows), folder / "preview.html").read_text(encoding="utf-8")


def shapes(page: str) -> list[str]:
    return re.findall(r'class="gold" points="([^"]*)"', page)


@pytest.mark.parametrize(
    ("one", "count", "first"),
    [
        (row("[30, 40, 150, 120]"), 1, "30,40 150,40 150,120 30,120"),
        (row(BOXES, "od_ap"), 2, "30,40 150,40 150,120 30,120"),
        (row("None", "od_ap"), 0, None),
        (row("[150, 100]", "point_distance"), 1, "146,100 150,96 154,100 150,104"),
        (row("[[30, 40, 150, 120], [0, 0, 30, 20]]", "point_in_box"), 2, "30,40 150,40 150,120 30,120"),
        (row(POLYGON, "mask_iou"), 1, None),
        (row("3", "default"), 0, None),
        (row("[0.1, 0.2", "rec"), 0, None),
    ],
)
def test_golds_are_drawn_in_pixels_of_their_picture(tmp_path, one, count, first):
    page = page_of(tmp_path, one)
    assert len(shapes(page)) == count and (first is None or shapes(page)[0] == first)
    assert 'viewBox="0 0 300 200"' in page and 'alt="a.png of ' in page


def test_the_gold_of_one_of_two_pictures_is_drawn_on_that_one(tmp_path):
    page = page_of(tmp_path, row("[30, 40, 150, 120]", image=["a.png", "b.png"], box_image=2))
    first, second = page.split("<figure")[1:]
    assert not shapes(first) and len(shapes(second)) == 1
    assert "nothing drawn" in first and "1 gold outline drawn" in second


def test_a_gold_that_cannot_be_read_is_said_and_the_row_is_shown(tmp_path):
    page = page_of(tmp_path, row("nowhere"))
    assert 'class="finding">solution: got &#39;nowhere&#39;' in page and "data:image/webp" in page


def test_a_gold_in_another_frame_is_said_and_not_drawn(tmp_path):
    page = page_of(tmp_path, row("[0.1, 0.2, 0.5, 0.6]"))
    assert not shapes(page) and "looks like fractions of the sides" in page


def test_a_picture_that_cannot_be_opened_is_said(tmp_path):
    data = dataset(tmp_path, row("3", "default"))
    (tmp_path / "a.png").write_bytes(b"none")
    page = write_preview(data, tmp_path / "p.html").read_text()
    assert "a.png" in page and "no image" in page and "<figure" not in page


def test_large_pictures_are_small_on_the_page_and_outlines_follow(tmp_path):
    data = dataset(tmp_path, row("[0, 0, 1500, 1000]"))
    Image.new("RGB", (3000, 2000)).save(tmp_path / "a.png")
    page = write_preview(data, tmp_path / "p.html").read_text()
    assert shapes(page) == ["0,0 400,0 400,266.5 0,266.5"] or 'viewBox="0 0 800 533"' in page


def test_texts_stay_texts(tmp_path):
    page = page_of(tmp_path, row(BOXES, "od_ap", problem=HOSTILE), row(HOSTILE, "default"))
    assert "<script" not in page and "<svg onload" not in page
    assert "&lt;script&gt;alert(1)" in page and "{{ 7 * 7 }}" in page and "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")


def test_half_characters_do_not_stop_the_page(tmp_path):
    data = [replace(dataset(tmp_path, row("3", "default"))[0], solution="a\ud800b")]
    assert b"ud800" in write_preview(data, tmp_path / "p.html").read_bytes()


def test_long_texts_and_many_pictures_are_cut_and_said(tmp_path):
    page = page_of(tmp_path, row("3", "default", problem="x" * 9000, image=["a.png"] * 6))
    assert "(5000 more characters)" in page and "2 more pictures are not shown" in page and page.count("<figure") == 4


@pytest.mark.parametrize("count", [1, 5, 12, 13, 100, 1000])
def test_rows_are_spread_evenly(tmp_path, count):
    data = dataset(tmp_path, *(row("3", "default", id=str(i), image=f"{'ab'[i % 2]}.png") for i in range(count)))
    places = [int(record.id) for record in sample_records(data)]
    assert len(places) == min(count, PREVIEW_ROWS) == len(set(places)) and places == sorted(places)
    if count >= 100:
        assert all(abs(place - i * count / PREVIEW_ROWS) <= 50 for i, place in enumerate(places))


def test_rows_of_one_picture_give_way_to_another_picture(tmp_path):
    names = ["a.png"] * 30 + ["b.png"] + ["a.png"] * 30
    data = dataset(tmp_path, *(row("3", "default", image=name) for name in names))
    assert {record.images for record in sample_records(data)} == {("a.png",), ("b.png",)}


def test_data_without_a_row(tmp_path):
    assert "There is no row to show" in write_preview([], tmp_path / "p.html").read_text()


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place in (tmp_path / "folder", tmp_path / "file" / "p.html"):
        with pytest.raises(DataError, match="--preview"):
            write_preview(dataset(tmp_path, row("3", "default")), place)


def test_the_doctor_writes_the_page(tmp_path, capsys, monkeypatch):
    dataset(tmp_path, row("[30, 40, 150, 120]"))
    monkeypatch.setattr(check, "attacked_rows", lambda *rest: [])  # seconds of cheap strategies
    flags = ["--data_file_paths", str(tmp_path / "rows.jsonl"), "--image_folders", str(tmp_path), "--preview"]
    for place, name in ((tmp_path / "rows.preview.html", []), (tmp_path / "own.html", [str(tmp_path / "own.html")])):
        assert check.main([*flags, *name]) == 0
        assert f"preview: {place}" in capsys.readouterr().out and len(shapes(place.read_text())) == 1


def test_the_importer_writes_the_page(tmp_path, capsys):
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    notes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 40, 120, 80]}]
    images = [{"id": 1, "file_name": "a.png", "width": 300, "height": 200}]
    file = {"images": images, "annotations": notes, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(file))
    assert convert.main([str(tmp_path / "a.json"), "--out", str(tmp_path / "out"), "--preview"]) == 0
    assert f"preview: {tmp_path / 'out' / 'preview.html'}" in capsys.readouterr().out
    assert shapes((tmp_path / "out" / "preview.html").read_text()) == ["30,40 150,40 150,120 30,120"]


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(page, tmp_path, scheme, width):
    rows = [row(BOXES, "od_ap", problem=HOSTILE), row("x" * 500, "default"), row("[30, 40, 150, 120]")]
    dataset(tmp_path, *rows)
    path = write_preview(load_records(str(tmp_path / "rows.jsonl"), str(tmp_path)), tmp_path / "p.html")
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("article").count() == 3 and page.locator("script").count() == 0
    assert page.evaluate("[...document.images].every(one => one.naturalWidth > 0 && one.alt)")
    image, box = page.locator("img").nth(2).bounding_box(), page.locator("polygon.gold").last.bounding_box()
    assert box["x"] - image["x"] == pytest.approx(image["width"] / 10, abs=3)
    assert box["width"] == pytest.approx(image["width"] * 0.4, abs=5)
    ground, ink = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    light = sum(map(int, re.findall(r"\d+", ground)[:3])) > sum(map(int, re.findall(r"\d+", ink)[:3]))
    assert light == (scheme == "light")
