"""Rows of other projects: read where they have one meaning, refused with a remedy where a picture would be lost."""

from pathlib import Path

import pytest

from open_r1.data.record import Record, parse_row
from open_r1.errors import DataError
from open_r1.tasks.importers.questions.image_tags import with_image_tags

TALK = {"conversations": [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": "1"}]}
WITH_IMAGE = {"image": "x/a.png", "problem": "How many?", "solution": "1"}


def parsed(row: dict) -> Record:
    return parse_row(row, "a.jsonl:1", 1)


def problems(row: dict) -> list[str]:
    with pytest.raises(DataError) as caught:
        parsed(row)
    return [str(problem) for problem in caught.value.problems]


# ------------------------------------------------------------------------------------------------- pictures elsewhere


@pytest.mark.parametrize(
    "key",
    [
        "Image",
        "IMAGE",
        "Images",
        "image_path",
        "image_paths",
        "images_path",
        "imagePath",
        "ImagePaths",
        "image_url",
        "image-file",
        "img",
        "imgs",
        "IMG_PATH",
        "img_filename",
        "imgname",
        "imgpath",
        "picture",
        "pictures",
        "pic",
        "photo",
        "screenshot",
        "pixel_values",
        "image_1",
        "image2",
        "image_list",
        "input_image",
        "decoded_image",
        "image_name",
        "image_b64",
        "file_name",
        "filename",
        "filepath",
        "path",
        "coco_url",
    ],
)
def test_a_picture_under_another_key_is_named(key: str) -> None:
    (message,) = problems({**TALK, key: "a.png"})
    assert f": {key}: got a picture, 'a.png'" in message and f"--fields image={key}" in message
    (message,) = problems({**TALK, key: ["a.png", "b.png"]})
    assert f"--fields images={key}" in message


@pytest.mark.parametrize("key", ["audio", "audios", "audio_file"])
@pytest.mark.parametrize("row", [TALK, WITH_IMAGE])
def test_sound_is_refused(key: str, row: dict) -> None:
    (message,) = problems({**row, key: "a.mp4"})
    assert "cannot be trained on yet" in message


@pytest.mark.parametrize("key", ["Video", "video_path", "videoUrl", "movie"])
@pytest.mark.parametrize("row", [TALK, WITH_IMAGE])
def test_a_video_under_another_key_is_named(key: str, row: dict) -> None:
    (message,) = problems({**row, key: "a.mp4"})
    assert f": {key}: got a video, 'a.mp4'" in message and f"--fields video={key}" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", {"path": "a.png", "bytes": None}),
        ("data", {"image": "a.png"}),
        ("data", {"meta": {"img_path": "a.png"}}),
        ("options", [{"image": "a.png"}, {"image": "b.png"}]),
        ("anything", "data:image/png;base64,iVBORw0KGgo="),
        ("img", {"path": "a.png", "bytes": "xx"}),
        ("image_id", "a.png"),
        ("pixel_values", [[0.1, 0.2], [0.3, 0.4]]),
    ],
)
def test_pictures_within_values_are_named(field: str, value: object) -> None:
    assert any(f": {field}" in message for message in problems({**TALK, field: value}))


NEUTRAL = [
    "frames",
    "figure",
    "media",
    "observation",
    "before",
    "front_view",
    "scan",
    "jpg",
    "thumbnail",
    "visual",
    "page",
    "crop",
    "x",
    "mm_data",
]
BYTES = "iVBORw0KGgoAAAANSUhEUgAAAFQAAABUCAIAAACTCYeW"


@pytest.mark.parametrize("key", NEUTRAL)
@pytest.mark.parametrize("value", ["a.png", ["a.png", "b.jpg"], [["a.png"]], {"view": "a.png"}])
def test_a_picture_under_any_key_is_named_in_a_row_without_one(key: str, value: object) -> None:
    assert any(f": {key}" in message and "a picture" in message for message in problems({**TALK, key: value}))


@pytest.mark.parametrize(
    "value",
    [
        "https://x.org/a.png",
        "http://x.org/b/a.jpg?w=3",
        "data:image/png;base64,AAAA",
        BYTES,
        [{"type": "image", "value": "a.png"}],
        '{"image": "a.png"}',
        "my cat.png",
    ],
)
def test_every_way_of_naming_a_picture_is_seen_under_a_neutral_key(value: object) -> None:
    assert any("a picture" in message for message in problems({**TALK, "x": value}))


def test_a_file_below_the_image_folder_is_one_whatever_its_ending(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/0001", "scan.dcm", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    for value in ("b/0001", "scan.dcm"):
        with pytest.raises(DataError, match="x: got a picture"):
            parse_row({**TALK, "x": value}, "a.jsonl:1", 1, str(tmp_path))
    for value in ("b/0002", "notes.txt", "b", "easy", "3.14", 7):
        assert parse_row({**TALK, "x": value}, "a.jsonl:1", 1, str(tmp_path)).extra == {"x": value}


@pytest.mark.parametrize(("key", "value"), [("wav", "a.wav"), ("recording", "a.mp3"), ("wav", "clips/a1")])
def test_sound_is_an_audio(key: str, value: str) -> None:
    assert f"{key}: got an audio, " in problems({**TALK, key: value, "wav_2": None})[0]


@pytest.mark.parametrize("url", ["s3://b/a.png", "https://x.org/p/123", "gs://b/a.png"])
def test_a_picture_elsewhere_is_to_be_downloaded(url: str) -> None:
    (message,) = problems({**TALK, "photo": url})
    assert "download it" in message and "nothing is fetched" in message and "--fields" not in message


@pytest.mark.parametrize(
    "fields",
    [
        {"picture": "a cat on a mat"},
        {"clip": "first", "sound": "loud"},
        {"photo": "Jane Doe", "picture": "yes"},
        {"speech": "Hello there."},
        {"level": "easy", "empty": {"a": "", "b": "{x"}, "note": "See the file logo.txt for more. It ends in png."},
        {"answer": "logo.png", "question": "Which one?"},
    ],
)
def test_words_are_no_file(fields: dict) -> None:
    assert parsed({**TALK, **fields}).extra == fields


@pytest.mark.parametrize("frame", ["frame_index", "frame", "frame_idx", "timestamp"])
def test_the_video_of_a_frame_is_its_source(frame: str) -> None:
    row = {**WITH_IMAGE, "video": "v001.mp4", frame: 12}
    assert parsed(row).extra == {"video": "v001.mp4", frame: 12}


def test_a_second_picture_that_would_not_be_shown_is_named() -> None:
    (message,) = problems({**WITH_IMAGE, "image_2": "b.png"})
    assert "add it to 'images', or remove the field" in message


@pytest.mark.parametrize(
    "fields",
    [
        {"image_wh": [640, 480], "image_sizes": [[1, 2]], "box_image": 1, "image_id": 391895},
        {"image_width": 640, "height": 480, "img_id": "391895", "image_caption": "a cat on a mat"},
        {"image_path": None, "img": "", "images_path": [], "video_path": None, "audio": False},
        {"options": ["a", "b"], "source": "wikipedia", "url": "https://example.org/page", "file": "notes.txt"},
        {"objects": {"image_id": [0], "bbox": [[1, 2, 3, 4]]}, "video_id": "v_12", "audio_id": 3},
    ],
)
@pytest.mark.parametrize("row", [TALK, WITH_IMAGE])
def test_other_fields_stay_what_they_are(row: dict, fields: dict) -> None:
    assert parsed({**row, **fields}).extra == fields


@pytest.mark.parametrize(
    "fields",
    [
        {"file_name": "COCO_train2014_a.png", "coco_url": "http://images.cocodataset.org/a.jpg"},
        {"image_path": "/data/elsewhere/a.png", "image_name": "a"},
        {"image_url": "https://example.org/other.png"},
        {"metadata": {"file_name": "a.png"}},
    ],
)
def test_names_of_the_same_picture_are_fine(fields: dict) -> None:
    assert parsed({**WITH_IMAGE, **fields}).extra == fields


# ----------------------------------------------------------------------------------------------------- places in texts

PLACES = (
    "<image 1> <image1> <image_1> <IMAGE> <Image> <image/> <image\x20/> {image} {{image}} {image_1} [IMG] [image] "
    "<|image|> <|image_1|> <|image_pad|> <img> <image_placeholder> <ImageHere> <|vision_start|><|image_pad|>"
    "<|vision_end|>"
)


@pytest.mark.parametrize("mark", [*PLACES.replace("<image 1>", "").replace("<image />", "").split(), "<image 1>"])
def test_a_place_that_is_nearly_the_tag_is_refused_beside_a_picture(mark: str) -> None:
    (message,) = problems({"image": "a.png", "problem": f"{mark}\nHow many?", "solution": "1"})
    assert "which is no place of a picture, expected <image>" in message and "open_r1.convert" in message


SPELLINGS = (
    "<images> <photo> <screenshot> &lt;image&gt; ＜image＞ \\<image\\> {images[0]} <image:1> %image% __image__ "
    "$image$ ![](image) [[image]] <picture> <<image>>"
)


@pytest.mark.parametrize("mark", [*SPELLINGS.split(), "<image id=1>", "< image >"])
def test_further_spellings_beside_a_picture(mark: str) -> None:
    (message,) = problems({"image": "a.png", "problem": f"{mark} How many?", "solution": "1"})
    assert "which is no place of a picture" in message and "where each has its tag, other marks are text" in message


LONE = "<IMG> <img> {image} [image] <Image> <IMAGE> <image/> [IMG] {{image}} <picture> {image_1} ![image] <images>"


@pytest.mark.parametrize("mark", [*LONE.split(), "<image />", "&lt;image&gt;", "$image$"])
@pytest.mark.parametrize("text", ["{0} How many balls?", "{0}\nHow many balls?", "Look:\n{0}\nHow many balls?"])
def test_a_place_without_any_picture_is_refused_where_it_stands_alone(mark: str, text: str) -> None:
    (message,) = problems({"problem": text.replace("{0}", mark), "solution": "1"})
    assert "in a row without one" in message and "'image'" in message


@pytest.mark.parametrize("mark", ["<IMG>", "<image/>", "{{image}}", "[IMG]", "<Image>"])
def test_a_place_without_any_picture_is_refused_at_the_end(mark: str) -> None:
    assert "in a row without one" in problems({"problem": f"How many balls? {mark}", "solution": "1"})[0]


CODE = [
    "In Java, what is List<Image>?",
    "std::vector<Image> v; v.size()?",
    "let v: Vec<Picture> = vec![]; v.len()?",
    "What does f'{image}.png' give?",
    r"Simplify $\frac{image}{2}$",
    "Let f be a map; is [image] of f = {f(x)}?",
    "The set {image} has how many elements?",
    "What is in the [picture]?",
    "echo ${image} and a[image]",
    r"Compute \text{image}(f).",
]


@pytest.mark.parametrize("text", CODE)
@pytest.mark.parametrize("image", [{}, {"image": "a.png"}])
def test_code_and_mathematics_are_text_also_beside_a_picture(text: str, image: dict) -> None:
    assert parsed({**image, "problem": text, "solution": "1"}).turns[0].text == text
    pictures = tuple(image.values())
    assert with_image_tags([text], pictures) == ([text], pictures)


@pytest.mark.parametrize("mark", ["<IMG>", "{image}", "[IMG]", "<photo>", "%image%"])
def test_marks_are_text_where_each_picture_has_its_tag(mark: str) -> None:
    text = f"<image>What does {mark} mean?"
    assert parsed({"image": "a.png", "problem": text, "solution": "1"}).turns[0].text == text


@pytest.mark.parametrize(
    "mark", ["<images>", "<photo>", "&lt;image&gt;", "＜image＞", "<image id=1>", "{images[0]}", "$image$"]
)
def test_what_is_refused_is_converted(mark: str) -> None:
    assert with_image_tags([f"{mark} How many?"], ("a.png",)) == (["<image> How many?"], ("a.png",))


@pytest.mark.parametrize(
    "text",
    [
        "<img>a.jpg</img>\nWhere?",
        "Look at <image 1>.",
        "<|image_1|>?",
        "<video>\nWhat?",
        "What?<audio>",
        "<|video_pad|>?",
        "Find the <ref-object>",
        "<im_start>?",
    ],
)
def test_unmistakable_marks_are_refused_without_a_picture(text: str) -> None:
    (message,) = problems({"problem": text, "solution": "1"})
    assert "turn 1 (user)" in message


@pytest.mark.parametrize(
    "text",
    [
        "Write an <img src='a.png'> tag.",
        "What does the <video> element do?",
        r"Find the [image] of f, or \operatorname{image}(f), as {image}.",
        "Is <img> or <image/> of SVG an element?",
        "Put the box between <bbox> and </bbox>.",
        "1 < 2 [3] {4}",
    ],
)
def test_html_and_mathematics_are_text(text: str) -> None:
    assert parsed({"problem": text, "solution": "1"}).turns[0].text == text
    assert parsed({"image": "a.png", "problem": f"<image>{text}".replace("<image/>", ""), "solution": "1"})


def test_a_gold_may_hold_the_tag_but_no_unfilled_place() -> None:
    assert parsed({"image": "a.png", "problem": "<image>?", "solution": "<image>"}).solution == "<image>"
    (message,) = problems({"image": "a.png", "problem": "<image>?", "solution": "<bbox>"})
    assert "'<bbox>', which nothing fills" in message


# -------------------------------------------------------------------------------------------------------------- shapes


def turns(*items: tuple[str, str], keys: tuple[str, str] = ("role", "content")) -> list[dict]:
    return [dict(zip(keys, item, strict=True)) for item in items]


FROM = ("from", "value")
READ = [
    {"question": "Q", "answer": "A"},
    {"problem": "Q", "answer": "A"},
    {"query": "Q", "response": "A", "history": []},
    {"prompt": "Q", "completion": "A"},
    {"prompt": turns(("user", "Q")), "solution": "A"},
    {"prompt": turns(("user", "Q")), "ground_truth": "A"},
    {"instruction": "Q", "input": "", "output": "A"},
    {"input": "Q", "target": "A"},
    {"question": "Q", "answer": ["A"]},
    {"question": "Q", "answer": "A", "conversations": None},
    {"messages": turns(("user", "Q")), "solution": "A"},
    {"messages": turns(("user", "Q")), "answer": "A"},
    {"conversations": turns(("human", "Q"), keys=FROM), "response": "A"},
    {"conversations": turns(("user", "Q"), ("assistant", "A"))},
    {"messages": turns(("human", "Q"), ("gpt", "A"), keys=FROM)},
]


@pytest.mark.parametrize("row", READ)
def test_shapes_of_one_meaning_are_read(row: dict) -> None:
    record = parsed({**row, "level": 3})
    assert ([turn.text for turn in record.turns], record.solution) == (["Q"], "A")
    assert {key: value for key, value in record.extra.items() if value} == {"level": 3}


def test_the_input_of_an_instruction_follows_it() -> None:
    assert parsed({"instruction": "Add.", "input": "1+1", "output": "2"}).turns[0].text == "Add.\n1+1"


def test_our_own_names_win() -> None:
    record = parsed({"problem": "Q", "solution": "A", "answer": "A", "question": "R"})
    assert (record.turns[0].text, record.solution, record.extra) == ("Q", "A", {"answer": "A", "question": "R"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Q", "prompt": "R", "answer": "A"}, "--fields problem=question"),
        ({"question": "Q", "answer": "A", "response": "B"}, "--fields solution=answer"),
        ({"question": "Q", "answer": ["A", "B"]}, "2 texts"),
        ({"question": "Which?", "options": ["one", "two"], "answer": "A"}, "which the question does not show"),
        ({"question": "Which?", "options": "['one', 'two']", "answer": "A"}, "which the question does not show"),
        ({"query": "Q", "response": "A", "history": [["a", "b"]]}, "earlier turns"),
        ({"messages": turns(("user", "Q"))}, "a final gpt (assistant) turn"),
        ({"question": "Q"}, "a non-empty answer"),
        ({"answer": "A"}, "expected 'conversations'"),
    ],
)
def test_shapes_of_several_meanings_are_refused(row: dict, message: str) -> None:
    assert any(message in text for text in problems(row))


@pytest.mark.parametrize(
    "fields",
    [
        {"image": "a.png"},
        {"images": ["a.png"]},
        {"image_path": "a.png"},
        {"attachments": ["a.png"]},
        {"experimental_attachments": [{"url": "a.png"}]},
    ],
    ids=lambda fields: next(iter(fields)),
)
@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_a_picture_named_within_a_turn_is_refused_with_its_place(name, fields):
    keys = ("role", "content") if name == "messages" else ("from", "value")
    turns = [dict(zip(keys, pair, strict=True)) for pair in (("user", "How many?"), ("assistant", "3"))]
    assert parse_row({name: turns}, "a.jsonl:1", 1).solution == "3"
    with pytest.raises(DataError) as error:
        parse_row({name: [turns[0] | fields, turns[1]]}, "a.jsonl:1", 1)
    assert f"{name}[0].{next(iter(fields))}" in str(error.value) and "beside" in str(error.value)


def test_trl_completion_turn_is_the_gold():
    row = {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "3"}]}
    assert parse_row(row, "a.jsonl:1", 1).solution == "3"


@pytest.mark.parametrize("field", ["solution"])
def test_two_gold_answers_of_a_conversation_are_refused_unless_equal(field):
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "so it is 3"}]
    assert parse_row({"messages": turns, field: "so it is 3"}, "a.jsonl:1", 1).solution == "so it is 3"
    with pytest.raises(DataError, match="one gold answer"):
        parse_row({"messages": turns, field: "3"}, "a.jsonl:1", 1)
    assert parse_row({"messages": turns[:1], field: "3"}, "a.jsonl:1", 1).solution == "3"


def test_parts_written_as_a_text_are_refused():
    turns = [
        {"role": "user", "content": '[{"type": "image", "image": "a.png"}]'},
        {"role": "assistant", "content": "3"},
    ]
    with pytest.raises(DataError, match="write the list itself"):
        parse_row({"messages": turns}, "a.jsonl:1", 1)
