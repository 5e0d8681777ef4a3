"""python -m open_r1.convert on rows of questions: other trainers' rows, question files, multiple choice, clicks."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.converted import Door
from helpers.imported import picture
from PIL import Image


@pytest.fixture
def door(tmp_path, capsys) -> Door:
    return Door(tmp_path, capsys)


def png(color: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def parquet(rows: list[dict]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


IMAGE = {"image": "a.png"}


@pytest.mark.parametrize(
    ("row", "said", "question", "gold"),
    [
        ({"problem": "<image>n?", "answer": "1", "images": ["a.png"]}, "EasyR1", "<image>n?", "1"),
        ({"problem": "n?", "solution": 1, **IMAGE}, "EasyR1", "n?", "1"),
        ({"prompt": "n?", "solution": "1", **IMAGE}, "TRL", "n?", "1"),
        ({"prompt": [{"role": "user", "content": "n?"}], "answer": "1", **IMAGE}, "TRL", "n?", "1"),
        (
            {"prompt": "n?", "completion": [{"role": "assistant", "content": "1"}], "images": ["a.png"]},
            "TRL",
            "n?",
            "1",
        ),
        ({"query": "<image>n?", "response": "1", "images": ["a.png"]}, "ms-swift", "<image>n?", "1"),
        ({"instruction": "Count.", "input": "All.", "output": "1", **IMAGE}, "LLaMA-Factory", "Count.\nAll.", "1"),
        ({"instruction": "Count.", "input": "", "output": "1", **IMAGE}, "LLaMA-Factory", "Count.", "1"),
        (
            {
                "prompt": [{"role": "user", "content": "<image>n?"}],
                "reward_model": {"ground_truth": "1"},
                "images": ["a.png"],
            },
            "verl",
            "<image>n?",
            "1",
        ),
        ({"question": "n?", "answer": "1", **IMAGE}, "questions and answers", "n?", "1"),
        ({"question": "n?", "answer": 1.5, **IMAGE}, "questions and answers", "n?", "1.5"),
        ({"question": "Is it?", "answer": False, **IMAGE}, "questions and answers", "Is it?", "no"),
        ({"question": "n?", "gt_answer": "x", **IMAGE}, "questions and answers", "n?", "x"),
        ({"imgname": "a.png", "query": "n?", "label": "12.5"}, "ChartQA", "n?", "12.5"),
        ({"image": "a.png", "query": "n?", "label": ["Yes"], "human_or_machine": 0}, "ChartQA", "n?", "Yes"),
    ],
)
@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_rows_of_a_question_and_its_answer(door, row, said, question, gold, form):
    files = {"json": {"r__json": [row]}, "jsonl": {"r__jsonl": [row, row]}, "parquet": {"r__parquet": parquet([row])}}
    done = door(**files[form])
    assert done.questions[0] == question and done.golds[0] == gold and said in done.said
    assert done.rows[0]["image"] == "a.png"


def test_history_and_system_come_before_the_question(door):
    row = {"query": "and?", "response": "2", "history": [["n?", "1"]], "system": "Brief.", **IMAGE}
    assert [turn["value"] for turn in door(r__json=[row]).rows[0]["conversations"]] == [
        "Brief.",
        "n?",
        "1",
        "and?",
        "2",
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"problem": "n?", "answer": None}, "without an answer"),
        ({"problem": "n?", "answer": " "}, "without an answer"),
        ({"problem": "n?", "answer": {}}, "without an answer"),
        ({"problem": None, "answer": "1"}, "without a question, in the field problem"),
        ({"problem": " ", "answer": "1"}, "without a question"),
        ({"problem": "n?", "answer": "1", "images": [None]}, "empty place"),
        ({"problem": "n?", "answer": "1", "images": [{"bytes": "x", "path": None}]}, "not there"),
        ({"problem": "n?", "answer": "1", "image": "gone.png"}, "not there"),
        ({"problem": "n?", "answer": 2**70}, "an answer that is"),
        ({}, "without"),
        (7, "no object"),
    ],
)
def test_rows_without_what_they_need_are_left_out(door, row, reason):
    done = door(r__jsonl=[{"problem": "n?", "answer": "1"}, row])
    assert len(done.rows) == 1 and reason in next(iter(done.reasons)) and "r.jsonl:2" in done.said


def test_pictures_inside_parquet_are_written_once(door):
    red, blue = {"bytes": png(), "path": None}, {"bytes": png("blue"), "path": "b.png"}
    rows = [{"problem": "<image>n?", "answer": str(n), "images": [one]} for n, one in enumerate((red, red, blue))]
    done = door(train__parquet=parquet(rows))
    names = [row["image"] for row in done.rows]
    assert names[0] == names[1] != names[2] and len(list((door.folder / "out" / "images").iterdir())) == 2
    assert done.report["image_folder"].endswith("out/images")


def test_boxes_on_pictures_inside_parquet(door):
    picture = {"bytes": png(size=(300, 200)), "path": None}
    row = {"problem": "<image>Where?", "answer": '{"bbox_2d": [30, 40, 150, 120]}', "images": [picture]}
    done = door(train__parquet=parquet([row]))
    assert done.methods == ["rec"] and done.golds == ["[30, 40, 150, 120]"]


def test_pictures_inside_and_outside_share_one_folder(door):
    import base64

    inside = base64.b64encode(png()).decode()
    rows = [
        {"question": "n?", "answer": "1", "image": one}
        for one in (inside, f"data:image/png;base64,{inside}", "a.png", "sub/e.png")
    ]
    done = door(r__json=rows)
    assert len({row["image"] for row in done.rows}) == 3  # below one folder, as `Door` has seen


CHOICE = {"question": "Which?", "options": ["red", "blue"], "answer": "B", **IMAGE}


@pytest.mark.parametrize(
    ("row", "gold"),
    [
        (CHOICE, "B"),
        ({**CHOICE, "answer": "blue"}, "B"),
        ({**CHOICE, "answer": "(B)"}, "B"),
        ({**CHOICE, "answer": "B. blue"}, "B"),
        ({**CHOICE, "answer": 1}, "B"),
        ({**CHOICE, "answer": "1"}, "B"),
        ({**CHOICE, "answer": ["A", "B"]}, "A, B"),
        ({**CHOICE, "options": "['red', 'blue']"}, "B"),
        ({**CHOICE, "options": '["red", "blue"]'}, "B"),
        ({**CHOICE, "options": ["A. red", "B. blue"]}, "B"),
        ({**CHOICE, "options": {"A": "red", "B": "blue"}}, "B"),
        ({"question": "Which?", "choices": ["red", "blue"], "answer": 1, "hint": "", **IMAGE}, "B"),
        ({"question": "Which?", "choices": ["red", "blue"], "correct_choice_idx": 1, **IMAGE}, "B"),
        ({"question": "Which?", "choices": ["red", "blue"], "answer": "blue", "decoded_image": None, **IMAGE}, "B"),
        (
            {"question": "Which?", "choices": {"text": ["red", "blue"], "label": ["A", "B"]}, "answer": "B", **IMAGE},
            "B",
        ),
        ({"question": "Which?", "A": "red", "B": "blue", "C": None, "answer": "B", "hint": None, **IMAGE}, "B"),
        ({"question": "Which?", "options": [3, 5], "answer": 5, **IMAGE}, "B"),
        ({"question": "Which?", "options": ["3", "5"], "answer": "5", **IMAGE}, "B"),
    ],
)
def test_options_become_lettered_lines_and_the_gold_a_letter(door, row, gold):
    done = door(r__json=[row])
    assert done.golds == [gold] and done.methods == ["mcq"] and len(done.rows[0]["options"]) == 2
    first, second = done.rows[0]["options"]
    assert done.questions[0].endswith(f"Which?\nA. {first}\nB. {second}")


def test_options_that_the_question_shows_are_not_repeated(door):
    row = {**CHOICE, "question": "Which?\n(A) red\n(B) blue"}
    assert door(r__json=[row]).questions == ["Which?\n(A) red\n(B) blue"]


def test_numbers_of_options_are_counted_from_one_where_the_source_shows_it(door):
    rows = [{**CHOICE, "answer": number} for number in (1, 2, 1)]
    done = door(r__json=rows)
    assert done.golds == ["A", "B", "A"] and "counted from 1" in done.said


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**CHOICE, "answer": "C"}, "none of the options"),
        ({**CHOICE, "answer": "green"}, "none of the options"),
        ({**CHOICE, "answer": None}, "none of the options"),
        ({**CHOICE, "answer": 7}, "none of the options"),
        ({**CHOICE, "options": ["red", None]}, "an option that is no text"),
        ({**CHOICE, "options": [f"o{n}" for n in range(30)]}, "over 26 options"),
    ],
)
def test_choices_without_a_right_option(door, row, reason):
    done = door(r__json=[CHOICE, row])
    assert len(done.rows) == 1 and reason in next(iter(done.reasons))


def test_mmmu_with_numbered_pictures_and_open_questions(door):
    rows = [
        {"id": "v1", "question": "<image 2> or <image 1>?", "options": "['<image 1>', 'b']", "answer": "A",
         "image_1": "a.png", "image_2": "b.jpg", "image_3": None, "question_type": "multiple-choice"},
        {"id": "v2", "question": "<image 1> n?", "options": "[]", "answer": "['3', 'three']", "image_1": "a.png",
         "question_type": "open"},
    ]  # fmt: skip
    done = door(r__json=rows)
    assert done.rows[0]["image"] == ["b.jpg", "a.png", "a.png"] and done.questions[0].count("<image>") == 3
    assert done.golds == ["A", '["3","three"]'] and done.methods == ["mcq", "anls"]


def test_scienceqa_by_id_with_its_folders(door):
    picture(door.folder, "train/1/image.png")
    picture(door.folder, "train/2/image.png")
    problems = {
        str(n): {
            "question": "Which?",
            "choices": ["x", "y"],
            "answer": 1,
            "hint": "Look.",
            "image": image,
            "split": split,
        }
        for n, image, split in ((1, "image.png", "train"), (2, "image.png", "train"), (3, None, "val"))
    }
    done = door(problems__json=problems)
    assert [row.get("image") for row in done.rows] == ["train/1/image.png", "train/2/image.png", None]
    assert sorted(path.name for path in (door.folder / "out").glob("*.jsonl")) == ["train.jsonl", "val.jsonl"]
    assert done.questions[0] == "Look.\nWhich?\nA. x\nB. y" and [row["id"] for row in done.rows] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("answers", "gold", "method"),
    [
        (["May 3"], "May 3", "anls"),
        (["May 3", "3 May"], '["May 3","3 May"]', "anls"),
        (["red"] * 8 + ["pink"] * 2, "red", "anls"),
        (["red"] * 5 + ["pink"] * 5, '["red","pink"]', "anls"),
    ],
)
def test_accepted_answers_of_documents(door, answers, gold, method):
    row = {"questionId": 1, "question": "When?", "image": "documents/a.png", "answers": answers, "docId": 2}
    done = door(val__json={"dataset_name": "docvqa", "data": [row]})
    assert done.golds == [gold] and done.methods == [method] and "DocVQA" in done.said


def test_textvqa_and_gqa_name_pictures_by_id(door):
    picture(door.folder, "images/0054c91397f2fe05.jpg")
    picture(door.folder, "images/2370799.jpg")
    text = {"question": "word?", "image_id": "0054c91397f2fe05", "answers": ["stop"] * 10, "question_id": 5}
    gqa = {"07333408": {"question": "Is it red?", "imageId": "2370799", "answer": "no", "isBalanced": True}}
    one, two = door(t__json={"data": [text]}), door(g__json=gqa)
    assert one.rows[0]["image"] == "0054c91397f2fe05.jpg" and one.golds == ["stop"] and "TextVQA" in one.said
    assert two.rows[0]["image"] == "2370799.jpg" and two.rows[0]["id"] == "07333408" and "GQA" in two.said


def vqa_files(**fields) -> tuple[dict, dict]:
    question = {"question_id": 90, "image_id": 9, "question": "Colour?"}
    people = [{"answer": "red", "answer_confidence": "yes", "answer_id": n} for n in range(9)]
    note = {"question_id": 90, "image_id": 9, "answers": [*people, {"answer": "pink"}], **fields}
    return {"data_subtype": "train2014", "questions": [question]}, {"annotations": [note], "info": {}}


@pytest.mark.parametrize("name", ["COCO_train2014_000000000009.jpg", "000000000009.jpg"])
def test_vqa_pairs_of_files(door, name):
    picture(door.folder, f"images/{name}")
    questions, annotations = vqa_files()
    done = door(q__json=questions, a__json=annotations)
    assert done.golds == ["red"] and done.rows[0]["image"] == name and done.rows[0]["id"] == "90"
    questions, annotations = vqa_files(multiple_choice_answer="crimson")
    assert door(a__json=annotations, q__json=questions).golds == ["crimson"]


def test_vqa_files_alone_ask_for_the_other(door):
    questions, annotations = vqa_files()
    for done in (door(q__json=questions), door(a__json=annotations)):
        assert done.status == 1 and "give both files" in done.said
    other = {"annotations": [{"question_id": 1, "multiple_choice_answer": "x"}]}
    assert "questions of other annotations" in door(q__json=questions, a__json=other).said


CLICK = {"img_filename": "d.jpg", "instruction": "close", "data_type": "icon", "data_source": "web"}


@pytest.mark.parametrize(
    "rows",
    [
        [{**CLICK, "bbox": [30, 40, 120, 80]}],
        [{**CLICK, "bbox": [30, 40, 150, 120], "img_size": [300, 200], "ui_type": "icon"}],
        [
            {
                "img_filename": "d.jpg",
                "elements": [{"instruction": "close", "bbox": [0.1, 0.2, 0.5, 0.6], "data_type": "t"}],
            }
        ],
        [{"img_filename": "d.jpg", "element": [{"instruction": "close", "bbox": [0.1, 0.2, 0.5, 0.6]}], "url": "x"}],
    ],
)
def test_clicks(door, rows):
    done = door(screenspot__json=rows)
    assert json.loads(done.golds[0]) == [30, 40, 150, 120] and done.methods == ["point_in_box"]
    assert "--reward_method point_in_box" in done.said and '"close"' in done.questions[0]


@pytest.mark.parametrize("box", [[1, 2, 3], None, "x", [1, 2, None, 4], [500, 20, 30, 40]])
def test_clicks_without_a_target_are_left_out(door, box):
    good = [{**CLICK, "bbox": [n, 40, 120, 80]} for n in range(20)]
    done = door(s__json=[*good, {**CLICK, "bbox": box}])
    assert len(done.rows) == 20 and sum(done.reasons.values()) == 1


SEARCH = {
    "target_object": ["glove"],
    "bbox": [[30, 40, 120, 80]],
    "question": "What is the material of the glove?",
    "options": ["Rubber.", "Cotton.", "Kevlar.", "Leather."],
}


def searched(done) -> None:
    (row,) = done.rows
    assert row["target_boxes"] == [[30, 40, 150, 120]] and row["targets"] == ["glove"]
    assert row["options"]["ABCD".index(done.golds[0])] == "Rubber." and sorted(row["options"]) == sorted(
        SEARCH["options"]
    )
    assert done.methods == ["mcq"] and "visual search" in done.said
    assert done.questions[0].startswith("What is the material of the glove?\nA. ")


def test_visual_search_by_rows(door):
    searched(door(vstar__json=[{**SEARCH, "image": "d.jpg"}]))
    done = door(vstar__json=[{**SEARCH, "question": f"{n}?", "image": "d.jpg"} for n in range(40)])
    assert len(set(done.golds)) == 4  # the right option stands first in the source
    done = door(
        "--overwrite", vstar__json=[{**SEARCH, "image": "d.jpg"}, {**SEARCH, "bbox": [[1, 2]], "image": "d.jpg"}]
    )
    assert len(done.rows) == 1 and "boxes of four numbers" in next(iter(done.reasons))


def test_visual_search_by_a_folder_with_a_file_beside_each_picture(door):
    folder = door.folder / "vstar" / "direct_attributes"
    picture(folder, "sa_1.jpg", (300, 200))
    (folder / "sa_1.json").write_text(json.dumps(SEARCH))
    searched(door.convert(folder.parent))


def test_visual_search_with_options_in_the_text(door):
    text = (
        "What is it made of?\n(A) rubber\n(B) cotton\nAnswer with the option's letter from the given choices directly."
    )
    row = {"image": "d.jpg", "text": text, "category": "direct_attributes", "label": "B", "question_id": "3"}
    done = door(test_questions__jsonl=[row, row])
    assert done.questions[0] == "What is it made of?\n(A) rubber\n(B) cotton" and done.golds[0] == "B"
    assert done.methods == ["mcq", "mcq"] and done.rows[0]["category"] == "direct_attributes"


def test_rows_that_list_a_tool_of_their_own_leave_it_to_the_flag(door):
    words = "Think first, call **image_zoom_in_tool** if needed, then answer. Format strictly as: <think>...</think>"
    prompt = [
        {"role": "system", "content": "You are a helpful assistant.\n\n# Tools\n<tools>\n{}\n</tools>"},
        {"role": "user", "content": f"<image>\nIs the leaf red?\n{words}"},
    ]
    done = door(deepeyes__json=[{"prompt": prompt, "reward_model": {"ground_truth": "No"}, "images": ["a.png"]}])
    (row,) = done.rows
    assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"]
    assert done.questions == ["<image>\nIs the leaf red?"] and done.golds == ["No"]


def test_rows_by_fields(door):
    rows = [{"q": "n?", "meta": {"gold": 3}, "pic": "a.png", "level": 2, "junk": "x"}]
    done = door("--fields", "problem=q,solution=meta.gold,image=pic", "--keep", "level,absent", r__json=rows)
    assert done.rows == [
        {
            "image": "a.png",
            "level": 2,
            "conversations": [{"from": "human", "value": "n?"}, {"from": "gpt", "value": "3"}],
        }
    ]
    wrong = door("--fields", "problem=qq,solution=meta.gold", r__json=rows)
    assert wrong.status == 1 and "a row without the field qq" in wrong.said


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_tables_of_text(door, delimiter):
    lines = [
        delimiter.join(cells) for cells in (("question", "answer", "image"), ("n?", "1", "a.png"), ("m?", "2", ""))
    ]
    done = door(r__csv="\n".join(lines))
    assert done.golds == ["1", "2"] and [row.get("image") for row in done.rows] == ["a.png", None]
    torn = door(r__csv="\n".join([*lines, "only one cell"]))
    assert len(torn.rows) == 2 and "more or fewer cells" in torn.said


def test_folders_with_metadata_and_with_labels(door, capsys):
    folder = door.folder / "set"
    for name in ("train/x.png", "train/y.png"):
        picture(folder, name)
    (folder / "train" / "metadata.csv").write_text("file_name,question,answer\nx.png,n?,1\ny.png,n?,2\nz.png,n?,3\n")
    from open_r1.convert import main

    assert main([str(folder), "--out", str(door.folder / "o1")]) == 0
    rows = [json.loads(line) for line in (door.folder / "o1" / "train.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == ["train/x.png", "train/y.png"] and "not there" in capsys.readouterr().out
    for name in ("hot_dog/1.png", "cat/1.png", "cat/2.png"):
        picture(door.folder / "classes", name)
    assert main([str(door.folder / "classes"), "--out", str(door.folder / "o2")]) == 0
    rows = [json.loads(line) for line in (door.folder / "o2" / "train.jsonl").read_text().splitlines()]
    assert [row["conversations"][1]["value"] for row in rows] == ["cat", "cat", "hot dog"]
