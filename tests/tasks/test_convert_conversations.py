"""python -m open_r1.convert on conversations: LLaVA, ShareGPT, Qwen-VL, chats, ms-swift, with boxes and without."""

import json

import pytest
from helpers.converted import Door, talk


@pytest.fixture
def door(tmp_path, capsys) -> Door:
    return Door(tmp_path, capsys)


def chat(*turns: tuple[str, object], **fields: object) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **fields}


ONE = talk("<image>\nHow many?", "1", image="a.png")


@pytest.mark.parametrize("form", ["array", "pretty", "lines", "bom", "object", "in data", "by id"])
def test_one_row_in_every_wrapping(door, form):
    text = {
        "array": json.dumps([ONE]),
        "pretty": json.dumps([ONE], indent=2),
        "lines": json.dumps(ONE) + "\n\n" + json.dumps(ONE) + "\n",
        "bom": "\ufeff" + json.dumps([ONE]),
        "object": json.dumps(ONE, indent=1),
        "in data": json.dumps({"version": 1, "data": [ONE]}),
        "by id": json.dumps({"x1": ONE, "x2": ONE}),
    }[form]
    done = door(rows__json=text)
    assert done.status == 0 and set(done.golds) == {"1"}
    assert {row["image"] for row in done.rows} == {"a.png"} and "LLaVA" in done.said


@pytest.mark.parametrize(
    ("row", "images", "question"),
    [
        (talk("<image>?", "1", image="images/a.png"), "a.png", "<image>?"),
        (talk("<image>?", "1", image="./images/sub/e.png"), "sub/e.png", "<image>?"),
        (talk("<image>?", "1", image="e.png"), "sub/e.png", "<image>?"),
        (talk("<image>?", "1", image="/elsewhere/data/images/a.png"), "a.png", "<image>?"),
        (talk("<image>?", "1", image="C:\\data\\a.png"), "a.png", "<image>?"),
        (talk("<image>?", "1", image="https://host.example/x/a.png?raw=1"), "a.png", "<image>?"),
        (talk("<image>?", "1", image="https://host.example/%E5%9B%BE%20%E7%89%87.png"), "图 片.png", "<image>?"),
        (talk("<image>?", "1", image="s3://bucket/deep/b.jpg"), "b.jpg", "<image>?"),
        (talk("<image>?", "1", image="gs://bucket/b.jpg"), "b.jpg", "<image>?"),
        (talk("<image>?", "1", image="images/images/a.png"), "a.png", "<image>?"),
        (talk("<image>?", "1", image="/data/upload/1/0f6142fb-d.jpg"), "d.jpg", "<image>?"),
        (talk("<image>?", "1", image="/data/local-files/?d=sets/d.jpg"), "d.jpg", "<image>?"),
        (talk("n?", "1", image_path="a.png"), "a.png", "n?"),
        (talk("n?", "1", Image="a.png"), "a.png", "n?"),
        (talk("n?", "1", images=["a.png"]), "a.png", "n?"),
        (talk("n?", "1", pixel_values="a.png"), "a.png", "n?"),
        (talk("n?", "1", my_screenshot="a.png"), "a.png", "n?"),
        (talk("n?", "1", image={"path": "a.png", "bytes": None}), "a.png", "n?"),
        (talk("n?", "1"), None, "n?"),
        (talk("n?", "1", image=None), None, "n?"),
        (talk("n?", "1", image=[]), None, "n?"),
        (talk("<IMAGE>\nx", "1", image="a.png"), "a.png", "<image>\nx"),
        (talk("{image}x", "1", image="a.png"), "a.png", "<image>x"),
        (talk("[IMG] x", "1", image="a.png"), "a.png", "<image> x"),
        (talk("<|image|>x", "1", image="a.png"), "a.png", "<image>x"),
        (talk("<image/>x", "1", image="a.png"), "a.png", "<image>x"),
        (talk("<ImageHere>x", "1", image="a.png"), "a.png", "<image>x"),
        (talk("<|vision_start|><|image_pad|><|vision_end|>x", "1", image="a.png"), "a.png", "<image>x"),
        (talk("<image 2> or <image 1>", "1", images=["a.png", "b.jpg"]), ["b.jpg", "a.png"], "<image> or <image>"),
        (talk("<image 1>, <image 1>", "1", images=["a.png"]), ["a.png", "a.png"], "<image>, <image>"),
        (talk("<image1><image_2>", "1", image=["a.png", "b.jpg"]), ["a.png", "b.jpg"], "<image><image>"),
        (talk("Picture 1: <img>d.jpg</img>\nn?", "1"), "d.jpg", "Picture 1: <image>\nn?"),
        (talk("<img>a.png</img> <img>sub/e.png</img>", "1"), ["a.png", "sub/e.png"], "<image> <image>"),
    ],
)
def test_pictures_are_found_and_their_places_are_tags(door, row, images, question):
    done = door(rows__json=[row])
    assert done.rows[0].get("image") == images and done.questions == [question]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (talk("n?", ""), "a row without an answer"),
        (talk("n?", None), "a turn without text"),
        (talk("n?", True), "a turn without text"),
        (talk("<image>n?", "1"), "a place for a picture, as <image>, that the row does not have"),
        (talk("<image><image>n?", "1", image="a.png"), "a place for a picture"),
        (talk("<image>n?", "1", image=["a.png", "b.jpg"]), "more pictures than places"),
        (talk("<image 3>n?", "1", image=["a.png", "b.jpg"]), "a place for a picture, as <image 3>"),
        (talk("n?", "1", image="missing.png"), "a picture that is not there"),
        (talk("n?", "1", image="../x.png"), "a picture that is not there"),
        (talk("n?", "1", image=["a.png", None]), "an empty place"),
        (talk("n?", "1", image=7), "a picture of type int"),
        (talk("n?", "1", image={"bytes": None, "path": None}), "a picture without bytes"),
        (talk("n?", "1", image="data:image/png;base64,AAAA"), "no picture"),
        (talk("n?", "1", video="a.mp4"), "a video that is not there"),
        (talk("n?", "1", audios=["a.wav"]), "a row with audios"),
        (talk("n?", "1", pixel_values=[[0.1]]), "a picture as numbers"),
        (talk("n?", "1", left="a.png", right="b.jpg"), "pictures in the fields left and right"),
        ({"conversations": [{"from": "human", "value": "n?"}]}, "does not end with an answer"),
        ({"conversations": []}, "without a list of turns"),
        ({"conversations": None}, "without a list of turns"),
        ({"conversations": "text"}, "without a list of turns"),
        ({"conversations": [{"from": "tool", "value": "x"}, {"from": "gpt", "value": "1"}]}, "neither user nor"),
        ({"conversations": [{"from": None, "value": "x"}, {"from": "gpt", "value": "1"}]}, "neither user nor"),
        ({"conversations": [{"from": "gpt", "value": "1"}]}, "human"),
        ("text", "no object but str"),
        (None, "no object but NoneType"),
        ([1], "no object but list"),
    ],
)
def test_what_is_no_row_is_left_out_with_its_reason(door, row, reason):
    done = door(rows__json=[ONE, row])
    assert len(done.rows) == 1 and sum(done.reasons.values()) == 1
    (said,) = done.reasons
    assert any(part in said for part in reason.split("|")), said
    assert "rows.json:2" in done.said


def test_several_turns_have_the_last_answer_as_gold_or_a_row_for_each(door):
    turns = [("user", "<image>n?"), ("assistant", "1"), ("user", "and blue?"), ("assistant", 0)]
    row = chat(*turns, images=["a.png"], id="k")
    last, every = door(rows__json=[row]), door("--turns", "all", rows__json=[row])
    assert last.golds == ["0"] and len(last.rows[0]["conversations"]) == 4
    assert every.golds == ["1", "0"] and [one["id"] for one in every.rows] == ["k-1", "k-2"]


@pytest.mark.parametrize(
    ("content", "question", "image"),
    [
        ([{"type": "image"}, {"type": "text", "text": "n?"}], "<image>n?", "a.png"),
        ([{"type": "image", "image": "b.jpg"}, {"type": "text", "text": "n?"}], "<image>n?", "b.jpg"),
        ([{"type": "image_url", "image_url": {"url": "https://h/b.jpg"}}, {"text": "n?"}], "<image>n?", "b.jpg"),
        ([{"image": "b.jpg"}, {"text": "n?"}], "<image>n?", "b.jpg"),
        ([{"type": "text", "text": "n?"}], "n?", "a.png"),
    ],
)
def test_parts_of_a_chat(door, content, question, image):
    done = door(rows__jsonl=[chat(("user", content), ("assistant", "1"), images=["a.png"])] * 2)
    assert done.questions == [question] * 2 and done.rows[0]["image"] == image


@pytest.mark.parametrize(
    "part", [{"type": "video", "video": "a.mp4"}, {"type": "audio"}, {"type": "text", "text": None}]
)
def test_parts_that_are_no_text_and_no_picture(door, part):
    done = door(rows__json=[chat(("user", [part]), ("assistant", "1"))])
    assert done.status == 1 and "neither text nor image" in done.said


@pytest.mark.parametrize("field", ["solution", "answer", "ground_truth"])
def test_a_gold_beside_messages_that_end_with_the_question(door, field):
    done = door(rows__json=[chat(("user", "<image>n?"), images=["a.png"], **{field: 3})])
    assert done.golds == ["3"]


def test_system_turns_stay(door):
    rows = [{"system": "Be brief.", **ONE}, chat(("system", "Be brief."), ("user", "n?"), ("assistant", "1"))]
    for row in rows:
        assert door(rows__json=[row]).rows[0]["conversations"][0] == {"from": "system", "value": "Be brief."}


@pytest.mark.parametrize(
    ("answer", "gold", "method"),
    [
        ("<ref>red block</ref><box>(100,200),(500,600)</box>", [30, 40, 150, 120], "rec"),
        ("<box>(100, 200),(500, 600)</box>", [30, 40, 150, 120], "rec"),
        ("<ref>b</ref><box>[[100, 200, 500, 600]]</box>", [30, 40, 150, 120], "rec"),
        (
            "<|object_ref_start|>b<|object_ref_end|><|box_start|>(100,200),(500,600)<|box_end|>",
            [30, 40, 150, 120],
            "rec",
        ),
        ('```json\n[{"bbox_2d": [30, 40, 150, 120], "label": "b"}]\n```', [30, 40, 150, 120], "rec"),
        ({"bbox_2d": [30, 40, 150, 120], "label": "b"}, [30, 40, 150, 120], "rec"),
        (
            "<ref>b</ref><box>(100,200),(500,600)</box>, <ref>disk</ref><box>(700,500),(900,900)</box>.",
            [{"bbox_2d": [30, 40, 150, 120], "label": "b"}, {"bbox_2d": [210, 100, 270, 180], "label": "disk"}],
            "od_ap",
        ),
        (
            '[{"bbox": [30, 40, 150, 120], "category": "b"}, {"bbox": [200, 100, 280, 180], "label": "d"}]',
            [{"bbox_2d": [30, 40, 150, 120], "label": "b"}, {"bbox_2d": [200, 100, 280, 180], "label": "d"}],
            "od_ap",
        ),
    ],
)
def test_boxes_of_answers_become_pixels_with_their_method(door, answer, gold, method):
    done = door(rows__json=[talk("<image>Where?", answer, image="d.jpg")])
    assert json.loads(done.golds[0]) == gold and done.methods == [method]
    assert f"--task_type {'od' if method == 'od_ap' else 'rec'}" in done.said


def test_what_is_around_an_answer_with_boxes_stays(door):
    answer = '<think>There.</think><answer>{"bbox_2d": [30, 40, 150, 120]}</answer>'
    done = door(rows__json=[talk("<image>Where?", answer, image="d.jpg")])
    assert done.golds == ["<think>There.</think><answer>[30, 40, 150, 120]</answer>"] and done.methods == ["rec"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("The <ref>dog</ref><box>(1,2),(300,400)</box> runs.", "prose with boxes"),
        ("<box>somewhere</box>", "without four numbers"),
    ],
)
def test_boxes_that_no_method_grades_are_left_out(door, answer, reason):
    done = door(rows__json=[talk("<image>?", answer, image="d.jpg"), ONE])
    assert len(done.rows) == 1 and reason in next(iter(done.reasons))


def test_a_box_without_an_area_among_good_ones_is_left_out(door):
    rows = [talk("<image>?", f"<box>({n},100),(500,600)</box>", image="d.jpg") for n in range(20)]
    done = door(rows__json=[*rows, talk("<image>?", "<box>(5,5),(5,9)</box>", image="d.jpg")])
    assert len(done.rows) == 20 and done.reasons == {"a box outside of its picture, or without an area": 1}


@pytest.mark.parametrize("gold", ["[30, 40, 150, 120]", [30, 40, 150, 120], "[0.1, 0.2, 0.5, 0.6]"])
def test_numbers_in_brackets_are_asked_for_and_never_guessed(door, gold):
    rows = [talk("<image>Where?", gold, image="d.jpg")]
    plain = door(rows__json=rows)
    assert plain.methods == [None] and "--task rec reads them as boxes" in plain.said
    asked = door("--task", "rec", rows__json=rows)
    assert asked.status == 1 and "can be read as" in asked.said and "--boxes" in asked.said
    frame = "fractions" if "0.1" in str(gold) else "pixels"
    told = door("--task", "rec", "--boxes", frame, rows__json=rows)
    assert told.methods == ["rec"] and json.loads(told.golds[0]) == [30, 40, 150, 120]


def test_rows_without_objects_belong_to_detection(door):
    boxes = '[{"bbox_2d": [30, 40, 150, 120], "label": "b"}, {"bbox_2d": [200, 100, 280, 180], "label": "d"}]'
    rows = [talk("<image>all?", gold, image="d.jpg") for gold in (boxes, "[]", "None", [])]
    assert door(rows__json=rows).methods == ["od_ap"] * 4
    assert door("--task", "detection", rows__json=rows[1:]).methods == ["od_ap"] * 3
    assert "which rec needs" in door("--task", "rec", rows__json=rows[1:]).said


def test_boxes_on_one_of_several_pictures_are_kept_as_text_and_told(door):
    rows = [talk("<image><image>Where?", '{"bbox_2d": [3, 4, 15, 12]}', image=["a.png", "d.jpg"])]
    assert "one of several pictures" in door(rows__json=rows).said
    assert door("--task", "rec", rows__json=rows).status == 1


REAL = {"ref": ["cat", "dog"], "bbox": [[30, 40, 150, 120], [200, 100, 280, 180]]}


@pytest.mark.parametrize(
    ("objects", "golds"),
    [
        (REAL, [[30, 40, 150, 120], [200, 100, 280, 180]]),
        ({**REAL, "bbox_type": "real"}, [[30, 40, 150, 120], [200, 100, 280, 180]]),
        (
            json.dumps(
                [
                    {"caption": "cat", "bbox": [30, 40, 150, 120], "bbox_type": "real"},
                    {"caption": "dog", "bbox": [200, 100, 280, 180]},
                ]
            ),
            [[30, 40, 150, 120], [200, 100, 280, 180]],
        ),
        (
            {"ref": ["cat", "dog"], "bbox": [[0.1, 0.2, 0.5, 0.6], [0.5, 0.5, 0.9, 0.9]], "bbox_type": "norm1"},
            [[30, 40, 150, 120], [150, 100, 270, 180]],
        ),
    ],
)
@pytest.mark.parametrize("form", ["messages", "query"])
def test_objects_of_ms_swift_fill_their_places(door, objects, golds, form):
    asked, answer = "<image>Find all.", "<ref-object><bbox>, <ref-object><bbox>"
    rows = {
        "messages": chat(("user", asked), ("assistant", answer), images=["d.jpg"], objects=objects),
        "query": {"query": asked, "response": answer, "images": ["d.jpg"], "objects": objects},
    }
    done = door(rows__json=[rows[form]])
    assert [one["bbox_2d"] for one in json.loads(done.golds[0])] == golds and done.methods == ["od_ap"]


def test_places_of_objects_in_questions(door):
    row = chat(
        ("user", "<image>Is <ref-object> at <bbox>?"),
        ("assistant", "yes"),
        images=["d.jpg"],
        objects={"ref": ["the cat"], "bbox": [[1, 2, 3, 4]]},
    )
    assert door(rows__json=[row]).questions == ["<image>Is the cat at [1, 2, 3, 4]?"]


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        (None, "no objects"),
        ({"ref": ["cat"], "bbox": []}, "fewer objects"),
        ({"ref": ["cat"], "bbox": [[1, 2, 3, 4], [1, 2, 3, 4]]}, "more boxes"),
        ({"ref": ["cat"], "bbox": [[1, 2]]}, "not four numbers"),
        ({"ref": ["cat"], "bbox": [[1, 2, 3, 4]], "bbox_type": "odd"}, "bbox_type odd"),
    ],
)
def test_objects_that_do_not_fit_their_places(door, objects, reason):
    done = door(
        rows__json=[chat(("user", "<image>?"), ("assistant", "<ref-object><bbox>"), images=["d.jpg"], objects=objects)]
    )
    assert done.status == 1 and reason in done.said
