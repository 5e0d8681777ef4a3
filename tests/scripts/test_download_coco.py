"""COCO's archives and annotations: broken connections, hostile archives, and rows that mean one object each."""

import hashlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import download_coco_dataset as script
import numpy as np
import pytest
from helpers.repository import REPO
from PIL import Image

from open_r1.check import main as doctor
from open_r1.errors import DataError
from open_r1.tasks.importers.annotations.coco import (
    ORDINALS,
    Instance,
    InstanceFilter,
    Picture,
    instance_names,
    picture_rows,
    read_pictures,
)
from open_r1.tasks.importers.downloads import download, unzip

SCRIPT = "local_scripts/download_coco_dataset.py"

CONTENT = bytes(range(256)) * 20_000  # 5.12 MB
MD5 = hashlib.md5(CONTENT).hexdigest()


def run(*arguments: object) -> None:
    """The script in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [SCRIPT, *map(str, arguments)])
        script.main()


@dataclass
class Server:
    """A local HTTP server with Range support that may break connections; `asked` holds each (path, Range)."""

    files: dict[str, bytes]
    breaks: int = 0  # so many answers stop in the middle
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server({"/a.zip": CONTENT})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append((self.path, asked))
            if (data := state.files.get(self.path)) is None:
                return self.send_error(404)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return None
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            body = data[start:]
            if state.breaks:
                state.breaks -= 1
                body = body[: len(body) // 2]
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield state
    httpd.shutdown()
    httpd.server_close()


def fetch(server: Server, path: Path, **kwargs: object) -> Path:
    return download(f"{server.url}/a.zip", path, pause=0.0, **{"md5": MD5, **kwargs})


def test_a_broken_connection_is_continued(server, tmp_path):
    server.breaks = 3
    seen = []
    path = fetch(server, tmp_path / "a.zip", watch=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT and seen[-1] == (len(CONTENT), len(CONTENT))
    starts = [int(asked.removeprefix("bytes=")[:-1]) if asked else 0 for _, asked in server.asked]
    # half of what is left each time: 0, 1/2, 3/4, 7/8
    assert starts == [len(CONTENT) * part // 8 for part in (0, 4, 6, 7)]


def test_a_part_of_an_earlier_run_is_continued(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    assert fetch(server, tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.asked == [("/a.zip", "bytes=1000-")]
    assert fetch(server, tmp_path / "a.zip").read_bytes() == CONTENT and len(server.asked) == 1  # it is there


def test_a_part_that_is_whole_needs_no_byte(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_starts_over(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    assert fetch(server, tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    assert fetch(server, tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("start", [b"", b"x" * 1000])
def test_a_wrong_checksum_is_refused_and_deleted(server, tmp_path, start):
    (tmp_path / "a.zip.part").write_bytes(start)
    server.files["/a.zip"] = b"y" * 5000
    with pytest.raises(DataError, match=rf"a.zip: download: got a file with MD5 \w+, expected MD5 {MD5}"):
        fetch(server, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_never_lasts_ends_and_keeps_its_part(server, tmp_path):
    server.files["/a.zip"], server.breaks = b"ab", 99
    with pytest.raises(DataError, match=r"1 bytes, then: .*start again: the part is continued"):
        fetch(server, tmp_path / "a.zip", attempts=2)
    assert (tmp_path / "a.zip.part").read_bytes() == b"a" and len(server.asked) == 3


def test_what_is_not_there_is_not_asked_for_again(server, tmp_path):
    with pytest.raises(DataError, match=r"b.zip: download: got HTTP status 404"):
        download(f"{server.url}/b.zip", tmp_path / "b.zip")
    assert len(server.asked) == 1


def archive(path: Path, members: dict[str, str], link: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members.items():
            file.writestr(name, text)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            file.writestr(info, "/etc/passwd")
    return path


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt", "a\\..\\..\\out.txt", "C:/out.txt"])
def test_a_member_that_leaves_the_folder_is_refused_before_anything_is_written(tmp_path, name):
    bad = archive(tmp_path / "bad.zip", {"good.txt": "1", name: "2"})
    with pytest.raises(DataError, match=r"archive: got .*out.txt.*, expected files below"):
        unzip(bad, tmp_path / "here")
    assert [path.name for path in tmp_path.rglob("*")] == ["bad.zip"]


def test_a_link_is_refused(tmp_path):
    with pytest.raises(DataError, match="'a/link', expected files below"):
        unzip(archive(tmp_path / "bad.zip", {"good.txt": "1"}, link="a/link"), tmp_path / "here")


def test_unpacking_continues_and_takes_what_is_wanted(tmp_path):
    good = archive(tmp_path / "good.zip", {"a/1.txt": "one", "a/2.txt": "two", "b/3.txt": "three"})
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_text("ONE")  # of the right size: taken for done
    (tmp_path / "a" / "2.txt").write_text("t")  # broken off
    unzip(good, tmp_path, lambda name: name.startswith("a/"))
    assert (tmp_path / "a" / "1.txt").read_text() == "ONE" and (tmp_path / "a" / "2.txt").read_text() == "two"
    assert not (tmp_path / "b").exists()


def test_a_damaged_archive_is_named(tmp_path):
    path = archive(tmp_path / "bad.zip", {"a.txt": "one" * 1000})
    data = bytearray(path.read_bytes())
    data[40:45] = b"xxxxx"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"bad.zip: archive: "):
        unzip(path, tmp_path)
    assert not (tmp_path / "a.txt").exists()


def instance(id: int, category: str, x: float, area: float = 2500, crowd: bool = False, y: float = 10) -> Instance:
    side = area**0.5
    corners = [x, y, x + side, y, x + side, y + side, x, y + side]
    return Instance(id, category, (x, y, side, side), area, crowd, [corners])


def picture(*instances: Instance) -> Picture:
    return Picture("a.jpg", (300, 400), instances)


@pytest.mark.parametrize(
    ("instances", "names"),
    [
        ([("dog", 10)], ["the dog"]),
        ([("dog", 10), ("cat", 10)], ["the dog", "the cat"]),
        ([("dog", 200), ("dog", 10)], ["the second dog from the left", "the first dog from the left"]),
        # middles 5 px apart, 8 px are 2 % of the width; neither area is 1.5 times the other
        ([("dog", 10), ("dog", 15)], [None, None]),
        ([("dog", 10), ("dog", 15), ("dog", 300)], [None, None, "the third dog from the left"]),
        # sides 50 and 70 with the same middle: 4900 / 2500 = 1.96
        ([("dog", 20), ("dog", 10, 4900)], [None, "the largest dog"]),
        ([("dog", 10), ("dog", 200, 2500, True)], [None, "the whole group of dog objects"]),
        ([("dog", 10, 2500, True), ("dog", 200, 2500, True)], [None, None]),
        ([("dog", 10), ("cat", 200, 2500, True)], ["the dog", "the whole group of cat objects"]),
        ([("dog", 30 * k, 9) for k in range(12)], [*(f"the {k} dog from the left" for k in "0123456789"), None, None]),
    ],
)
def test_questions_mean_one_object(instances, names):
    names = [name and re.sub(r"\b\d\b", lambda digit: ORDINALS[int(digit[0])], name) for name in names]
    assert instance_names(picture(*(instance(i, *one) for i, one in enumerate(instances)))) == names


def test_rows_say_what_was_left_out():
    crowd = instance(1, "person", 200, crowd=True)
    small, big, other = instance(2, "cat", 10, 100), instance(3, "dog", 60), instance(4, "bird", 200, 6400)
    bad = Instance(5, "cup", (0, 0, 5, 5), 2500, False, [[1, 2]])
    twins = instance(6, "fork", 300), instance(7, "fork", 301)
    everything = picture(crowd, small, big, other, bad, *twins)
    rows, left = picture_rows(everything, InstanceFilter())
    assert [row["id"] for row in rows] == ["3", "4"]
    assert left == {"crowds": 1, "below min_area": 1, "unreadable masks": 1, "ambiguous": 2}
    assert [row["id"] for row in picture_rows(everything, InstanceFilter(keep_crowd=True))[0]] == ["1", "3", "4"]
    assert [row["id"] for row in picture_rows(everything, InstanceFilter(min_area=50))[0]] == ["2", "3", "4"]
    rows, left = picture_rows(everything, InstanceFilter(max_per_image=1))
    assert [row["id"] for row in rows] == ["4"] and left["over max_per_image"] == 1  # the largest
    rows, left = picture_rows(everything, InstanceFilter(min_ceiling=0.99))
    assert rows == [] and left["below min_ceiling"] == 2


def coco(path: Path, pictures: int, folder: Path, seed: int = 0, most: int = 4) -> Path:
    """A small annotation file of rectangles, and its images of black pixels."""
    rng = np.random.default_rng(seed)
    images, notes = [], []
    for k in range(1, pictures + 1):
        images.append({"id": k, "file_name": f"{k:06d}.png", "width": 160, "height": 120})
        (folder / images[-1]["file_name"]).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (160, 120)).save(folder / images[-1]["file_name"])
        for _ in range(int(rng.integers(1, most + 1))):
            x, y, w, h = (int(v) for v in rng.integers((0, 0, 20, 20), (100, 60, 60, 60)))
            note = {"id": len(notes) + 1, "image_id": k, "category_id": int(rng.integers(1, 4)), "iscrowd": 0}
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            notes.append({**note, "bbox": [x, y, w, h], "area": w * h, "segmentation": [corners]})
    notes[0] |= {"iscrowd": 1, "segmentation": {"size": [120, 160], "counts": [0, 3000, 16200]}}
    names = [{"id": k, "name": name} for k, name in enumerate(("dog", "cat", "bird"), 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images[::-1], "annotations": notes[::-1], "categories": names}))
    return path


def rows_in(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_local_files_become_rows_that_the_doctor_passes(tmp_path, capsys):
    notes = coco(tmp_path / "instances.json", 60, tmp_path / "images")
    out, again = tmp_path / "out", tmp_path / "again"
    arguments = ["--annotations", notes, "--images", tmp_path / "images", "--basis", "fourier", "--terms", 12]
    run("--output_dir", out, *arguments, "--workers", 1)
    said = capsys.readouterr().out
    run("--output_dir", again, *arguments, "--workers", 2)
    train, val = rows_in(out / "train.jsonl"), rows_in(out / "val.jsonl")
    assert f"train.jsonl: {len(train)} rows; left out: " in said and "1 crowds" in said
    assert (again / "train.jsonl").read_bytes() == (out / "train.jsonl").read_bytes()
    assert {row["image"] for row in val} <= {"000020.png", "000040.png", "000060.png"}
    assert not {row["image"] for row in val} & {row["image"] for row in train}
    asked = [(row["image"], row["conversations"][0]["value"]) for row in train]
    assert len(set(asked)) == len(asked) > 40 and all(
        question.startswith("<image>Outline the ") for _, question in asked
    )
    assert [row["image"] for row in train] == sorted(row["image"] for row in train)
    gold = json.loads(train[0]["conversations"][1]["value"])
    assert (
        set(gold) == {"centre", "coeffs", "size", "basis"} and gold["size"] == [120, 160] and len(gold["coeffs"]) == 12
    )
    assert {row["basis"] for row in train} == {"fourier"} and min(row["ceiling"] for row in train) > 0.5
    files, folder = f"{out / 'train.jsonl'}:{out / 'val.jsonl'}", str(tmp_path / "images")
    assert doctor(["--data_file_paths", files, "--image_folders", folder, "--task_type", "seg"]) == 0


@pytest.mark.slow
def test_rows_continue_after_a_kill(tmp_path, capsys):
    """Killed once 512 pictures are saved; half a line stands behind them."""
    notes = coco(tmp_path / "instances.json", 600, tmp_path / "images", most=1)
    arguments = ["--annotations", notes, "--images", tmp_path / "images", "--workers", 1]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run("--output_dir", whole, *arguments)
    said = capsys.readouterr().out
    broken.mkdir()
    command = [sys.executable, SCRIPT, "--output_dir", broken, *arguments]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen([str(part) for part in command], cwd=REPO, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (broken / "train.state.json").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)  # its workers too
    process.wait()
    reached = json.loads((broken / "train.state.json").read_text())
    assert reached["pictures"] >= 512
    if not reached["whole"]:
        with open(broken / "train.jsonl.part", "ab") as lines:
            lines.write(b'{"id": "half a l')
    run("--output_dir", broken, *arguments)
    assert capsys.readouterr().out == said.replace(str(whole), str(broken))
    assert (broken / "train.jsonl").read_bytes() == (whole / "train.jsonl").read_bytes()
    stamp = (broken / "train.jsonl").stat().st_mtime_ns
    run("--output_dir", broken, *arguments)
    assert (broken / "train.jsonl").stat().st_mtime_ns == stamp  # nothing is done twice
    run("--output_dir", broken, *arguments, "--terms", 3)  # other settings begin again
    assert len(json.loads(rows_in(broken / "train.jsonl")[0]["conversations"][1]["value"])["coeffs"]) == 3


def test_archives_are_downloaded_unpacked_and_become_rows(server, tmp_path, monkeypatch):
    """The whole way of COCO 2017 from a small server of the same layout."""
    source = tmp_path / "source"
    for split, number in (("train", 5), ("val", 3)):
        coco(source / "annotations" / f"instances_{split}2017.json", number, source / f"{split}2017", seed=number)
        server.files[f"/zips/{split}2017.zip"] = zipped(source, f"{split}2017/*")
    (source / "annotations" / "captions_train2017.json").write_text("{}")
    server.files["/annotations/annotations_trainval2017.zip"] = zipped(source, "annotations/*")
    sums = {name.removeprefix("/"): hashlib.md5(data).hexdigest() for name, data in server.files.items()}
    out = tmp_path / "out"
    monkeypatch.setattr(script, "MD5", sums)
    for _ in range(2):
        run("--output_dir", out, "--year", 2017, "--server", server.url, "--workers", 1)
    assert len([path for path, _ in server.asked]) == 3  # the second run asks for nothing
    assert not (out / "annotations" / "captions_train2017.json").exists()
    for split, number in (("train", 5), ("val", 3)):
        rows = rows_in(out / f"{split}.jsonl")
        assert rows and {row["image"].split("/")[0] for row in rows} == {f"{split}2017"}
        assert len(list((out / f"{split}2017").iterdir())) == number and (out / rows[0]["image"]).is_file()


def zipped(folder: Path, pattern: str) -> bytes:
    path = folder / "now.zip"
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(folder.glob(pattern)):
            file.write(member, member.relative_to(folder))
    data = path.read_bytes()
    path.unlink()
    return data


def test_a_server_with_another_file_is_refused(server, tmp_path):
    server.files["/annotations/annotations_trainval2014.zip"] = b"PK no COCO"
    with pytest.raises(DataError, match="expected MD5 0a379cfc70b0e71301e0f377548639bd"):
        run("--output_dir", tmp_path, "--server", server.url)


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"images": []}', '{"images": [], "categories": [], "annotations": [{}]}']
)
def test_other_files_are_no_annotations(tmp_path, text):
    (tmp_path / "notes.json").write_text(text)
    with pytest.raises(DataError, match=r"notes.json: annotations: got .*, expected COCO's instances"):
        read_pictures(tmp_path / "notes.json")


def test_a_folder_without_the_images_is_refused(tmp_path, capsys):
    notes = coco(tmp_path / "instances.json", 3, tmp_path / "images")
    with pytest.raises(DataError, match=r"other: images: got none of them, expected '000001.png'"):
        run("--output_dir", tmp_path, "--annotations", notes, "--images", tmp_path / "other")
    (tmp_path / "images" / "000002.png").unlink()
    run("--output_dir", tmp_path / "out", "--annotations", notes, "--images", tmp_path / "images", "--workers", 1)
    assert "1 pictures without a file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--annotations", "a.json"], "--annotations and --images"),
        (["--annotations", "a", "b", "--images", "c"], "--annotations and --images"),
        (["--annotations", *"abc", "--images", *"abc"], "got 3 files"),
        (["--terms", "0"], "--terms: got 0, expected 1 to 72"),
        (["--workers", "0"], "--workers: got 0"),
        (["--basis", "legendre"], "invalid choice"),
    ],
)
def test_wrong_flags_are_refused(tmp_path, capsys, arguments, says):
    with pytest.raises(SystemExit, match="2"):
        run("--output_dir", tmp_path, *arguments)
    assert says in capsys.readouterr().err
