"""A run folder that somebody else made: names of everything in it are shown as text, and no file beside it is read,
or deleted."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from PIL import Image

from open_r1.data.jsonl_io import read_lines
from open_r1.report.page import write_report
from open_r1.report.thinning import thin_rollouts
from open_r1.trainer.outputs.rollout_log import RolloutLog

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "\" onmouseover=alert(1) x='",
    "a\u2028b\u2029c\0d\ud800",
    "${alert(1)} {{ 7 * 7 }} {% raw %} `x`",
    "[click](javascript:alert(1)) <!-- ]]> -->",
    "</title></style></textarea></select><script>alert(1)</script>",
    "__proto__",
]


ROW = {"tr", "th", "td"}  # a text may be like more cheap strategies than another, a row of the page each


class Shape(HTMLParser):
    """The elements of a page with the names of their attributes, in order."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(name for name, _ in attributes)))

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}",))

    def handle_comment(self, data: str) -> None:
        self.elements.append(("comment",))


def make_run(folder: Path, name: str) -> Path:
    """A run in which everything that has a name is called `name`."""
    folder.mkdir(parents=True)
    steps = [{"step": s, "seconds": s, "reward": 0.5, f"rewards/{name}/mean": 0.1 * s, name: 1.0} for s in range(60)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps))
    word = name.replace("\ud800", "")  # which YAML cannot hold
    flags = {word: word, "task_type": word, "model_name_or_path": word, "reward_weights": [1.0]}
    (folder / "resolved_config.yaml").write_text(yaml.safe_dump({"task": flags}))
    outline = {"points": [[0, 0], [1, 0], [1, 1]], "label": name, "image": 0}
    said = {"text": name, "rewards": {name: 1.0}, "advantage": 0.1, "parsed": name, "tokens": 3, "truncated": True}
    group = {"step": 1, "id": name, "where": name, "prompt": name, "images": [name], "solution": name}
    group |= {"gold": [outline], "completions": [{**said, "outlines": [outline]}]}
    (folder / "rollouts.jsonl").write_text(json.dumps(group) + "\n")
    return folder


@pytest.mark.parametrize("name", HOSTILE)
def test_a_report_has_the_elements_of_a_plain_one(tmp_path, name):
    shapes = []
    for number, called in enumerate(("plain", name)):
        folders = [make_run(tmp_path / str(number) / part, called) for part in ("one", "two")]
        page = write_report(folders, tmp_path / f"{number}.html").read_text(encoding="utf-8")
        assert "\u2028" not in page.partition('id="data"')[2]
        shapes.append([element for element in Shape(page).elements if element[0].strip("/") not in ROW])
    assert shapes[0] == shapes[1]


def test_a_folder_with_a_hostile_name_is_shown_as_text(tmp_path):
    names = ("<img src=x onerror=alert(1)>", "plain")
    pages = [write_report([make_run(tmp_path / n, "x")], tmp_path / f"{i}.html") for i, n in enumerate(names)]
    first, second = (Shape(page.read_text(encoding="utf-8")).elements for page in pages)
    assert first == second


@pytest.mark.browser
@pytest.mark.parametrize("name", HOSTILE)
def test_the_page_shows_hostile_names_as_text(page, tmp_path, name):
    folders = [make_run(tmp_path / part, name) for part in ("one", "two")]
    page.goto(write_report(folders, tmp_path / "report.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    assert page.locator("img, main script, main style, [onerror], [onmouseover], [onclick]").count() == 0
    shown = page.locator(".completion pre").first.inner_text()
    assert shown.strip()[:8] == name.encode("utf-8", "replace").decode().replace("\0", "")[:8] or "\ud800" in name


# ------------------------------------------------------------------------------------------ files beside the folder

SECRET = b"RIFF secret of another folder"
ELSEWHERE = [
    "../secret.webp",
    "../../secret.webp",
    "/etc/passwd",
    "sub/../../../secret.webp",
    "link.webp",
    "..",
    "",
    ".",
]
ELSEWHERE += ["linked/secret.webp", "pipe\0.webp", "file:///etc/passwd", "http://example.com/a.webp"]


@pytest.fixture
def crafted(tmp_path) -> Path:
    """A run whose rollouts name files that are not its own."""
    (tmp_path / "secret.webp").write_bytes(SECRET)
    run = make_run(tmp_path / "runs" / "run", "x")
    (run / "secret.webp").write_bytes(SECRET)
    (run.parent / "secret.webp").write_bytes(SECRET)
    pictures = run / "rollout_images"
    pictures.mkdir()
    (pictures / "link.webp").symlink_to(tmp_path / "secret.webp")
    (pictures / "linked").symlink_to(tmp_path)
    Image.new("RGB", (4, 4)).save(pictures / "own.webp")
    (group,) = read_lines(run / "rollouts.jsonl")
    lines = [
        json.dumps({**group, "step": step, "images": [name]}) for step, name in enumerate([*ELSEWHERE, "own.webp"])
    ]
    (run / "rollouts.jsonl").write_text("\n".join(lines) + "\n")
    return run


def test_a_report_reads_pictures_of_its_run_alone(crafted, tmp_path):
    page = write_report([crafted], tmp_path / "report.html").read_text()
    pictures = json.loads(page.split('id="pictures">')[1].split("</script>")[0])
    assert list(pictures) == ["own.webp"]


def test_a_folder_of_pictures_that_is_a_link_out_of_the_run_is_not_read(crafted, tmp_path):
    pictures = crafted / "rollout_images"
    pictures.rename(tmp_path / "moved")
    pictures.symlink_to(tmp_path / "moved")
    page = write_report([crafted], tmp_path / "report.html").read_text()
    assert json.loads(page.split('id="pictures">')[1].split("</script>")[0]) == {}


def test_thinning_deletes_pictures_of_the_run_alone(crafted, tmp_path):
    picture = Image.new("RGB", (4, 4), "red")
    own = RolloutLog(str(crafted), 1, 0, 10)._save_picture(picture)
    (crafted / "rollout_images" / "notes.txt").write_text("mine")
    (crafted / "rollout_images" / "folder").mkdir()
    thin_rollouts(crafted, 1)
    left = {path.name for path in (crafted / "rollout_images").iterdir()}
    assert left == {"link.webp", "linked", "own.webp", "notes.txt", "folder"} and own not in left
    assert (tmp_path / "secret.webp").read_bytes() == (crafted.parent / "secret.webp").read_bytes() == SECRET
