"""Boxes name their picture, and golds that are no pixels of it are refused: by doctor, score, training, evaluation."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from open_r1.check import main as doctor
from open_r1.data.images import size_fields
from open_r1.data.jsonl_dataset import scan_records
from open_r1.data.record import Record
from open_r1.data.video.types import Video
from open_r1.errors import DataError
from open_r1.evaluation.cli import parser_of, run_evaluation
from open_r1.evaluation.question import Question
from open_r1.grpo_jsonl import main as grpo
from open_r1.report.examination import examine
from open_r1.rewards.base import no_outlines
from open_r1.rewards.drawing import answered_outlines, gold_outlines
from open_r1.rewards.parsing.pictures import named_pictures
from open_r1.rewards.places import PlaceStatistics, place_problems
from open_r1.rewards.registry import METHODS
from open_r1.sft_jsonl import main as sft
from open_r1.trainer.sft_batches import target_completion

BOX = [400, 300, 600, 500]
GOLDS = {
    "rec": BOX,
    "iou": BOX,
    **{name: [{"bbox_2d": BOX, "label": "block"}] for name in ("od_ap", "od_ap50", "odLength", "weighted_sum", "map")},
    "point_in_box": [BOX],
    "point_distance": [500, 400],
    "mask_iou": {"centre": [500, 400], "coeffs": [90], "size": [1200, 1600]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures of 320 x 240 and 1600 x 1200."""
    out = tmp_path_factory.mktemp("pictures")
    for name, size in (("a.png", (320, 240)), ("b.png", (1600, 1200))):
        Image.new("RGB", size, "white").save(out / name)
    return out


def row(method: str, gold: object, images: tuple[str, ...] = ("a.png", "b.png"), **extra: object) -> Record:
    text = gold if isinstance(gold, str) else json.dumps(gold)
    return Record("7", images, "", (), text, extra, "a.jsonl:7", method)


def written(folder: Path, name: str, rows: list[dict]) -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def two_pictures(gold: object, **fields: object) -> dict:
    tags = "<image><image>In the second picture, where is the block?"
    return {"image": ["a.png", "b.png"], "problem": tags, "solution": gold, **fields}


def test_every_method_with_outlines_has_places_and_a_gold_here() -> None:
    drawn = {name for name, method in METHODS.items() if method.places is not None}
    assert drawn == set(GOLDS) == {name for name, method in METHODS.items() if method.outlines is not no_outlines}


@pytest.mark.parametrize("family", ["original", "qwen3_vl", "qwen2_5_vl"])
@pytest.mark.parametrize("method", GOLDS)
def test_answers_are_in_the_frame_of_the_pictures_of_box_image(folder: Path, method: str, family: str) -> None:
    record = row(method, GOLDS[method], box_image=2, model_family=family)
    record = Record(**{**vars(record), "folder": str(folder)})
    record = record.with_extra(**size_fields(record), prompt_mode="direct")
    assert record.extra["image_wh"] == (1600, 1200) and record.extra["image_sizes"] == [(320, 240), (1600, 1200)]
    taught = target_completion(record)
    assert METHODS[method].score(taught, record) > 0.97
    outlines = [*answered_outlines(taught, record), *gold_outlines(record)]
    assert {outline.image for outline in outlines} == {1} and len(outlines) == 2
    assert place_problems(record) == []


@pytest.mark.parametrize("method", [name for name in GOLDS if name != "mask_iou"])
def test_an_answer_that_names_another_picture_earns_nothing(method: str) -> None:
    record = row(method, GOLDS[method], box_image=2, image_wh=[[320, 240], [1600, 1200]])
    answer = "click(500, 400)" if "point" in method else json.dumps(GOLDS[method])
    scores = [METHODS[method].score(f"image {number}: {answer}", record) for number in (1, 2, 3)]
    assert scores == [0, 1, 0]
    assert METHODS[method].score(answer, record) == 1
    assert answered_outlines(f"image 1: {answer}", record) == ()


@pytest.mark.parametrize("method", [name for name in GOLDS if name != "mask_iou"])
def test_a_place_in_a_row_with_a_video_alone_is_refused_unless_its_size_is_told(method: str) -> None:
    record = replace(row(method, GOLDS[method], ()), videos=(Video(("a.mp4",)),))
    (problem,) = place_problems(record)
    assert str(problem).startswith(f"a.jsonl:7: image: got a video alone, expected a picture for {method}; add the")
    assert place_problems(record.with_extra(image_wh=[1600, 1200])) == []


@pytest.mark.parametrize("method", GOLDS)
def test_a_row_that_names_no_picture_of_several_is_refused(method: str) -> None:
    message = r"a\.jsonl:7: box_image: got no such field, and 2 images, expected the number, from 1 to 2, .*box_image"
    with pytest.raises(DataError, match=message):
        METHODS[method].score("none", row(method, GOLDS[method], image_wh=[320, 240]))
    for bad in (0, 3, -1, "2", 1.0, True, [2]):
        (problem,) = place_problems(row(method, GOLDS[method], image_wh=[320, 240], box_image=bad))
        assert problem.field == "box_image" and "from 1 to 2" in problem.expected
    assert place_problems(row("default", "3")) == [] and METHODS["default"].score("3", row("default", "3")) == 1


def test_a_gold_may_name_its_picture_and_a_row_without_gold_lets_the_answer() -> None:
    sizes = {"image_wh": [[320, 240], [1600, 1200]], "model_family": "qwen3_vl"}
    named = row("rec", {"image": 2, "bbox_2d": BOX}, **sizes)
    assert METHODS["rec"].score("[250, 250, 375, 417]", named) > 0.99
    free = row("rec", "-", no_gold=True, **sizes)
    assert METHODS["rec"].parse('{"image": 2, "bbox_2d": [250, 250, 375, 500]}', free) == pytest.approx(
        (400, 300, 600, 600)
    )
    said = '{"image": 2, "bbox_2d": [250, 250, 375, 500]}'
    assert METHODS["rec"].parse("[250, 250, 375, 500]", free) == pytest.approx((80, 60, 120, 120))
    assert answered_outlines(said, free)[0].image == 1
    assert METHODS["rec"].parse("image 3: [250, 250, 375, 500]", free) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("image 2: @", 2),
        ("Image #2 @", 2),
        ('{"image": 2, "box": @}', 2),
        ('{"box": @, "image": "2"}', 2),
        ('{"image_2": @}', 2),
        ("In the second screenshot it is at @.", 2),
        ("the 3rd photo: @", 3),
        ("图2:@", 2),
        ("第二张图:@", 2),
        ("Image 1: none\nImage 2: @", 2),
        ("@ (image 2)", 2),
        ("@\nimage 2: none", None),
        ("@. Image 2: none", None),
        ("The image is 64 x 48: @", None),
        ("The image of 640 px: @", None),
        ("the image: @", None),
        ("image 0: @", None),
        ("@", None),
    ],
)
def test_names_of_pictures(text: str, number: int | None) -> None:
    start = text.index("@")
    assert named_pictures(text, [(start, start + 1)]) == [number]


# Golds that are no pixels of their picture.


@pytest.mark.parametrize(
    ("method", "gold", "looks", "remedy"),
    [
        ("rec", [0.1, 0.2, 0.5, 0.6], "fractions of the sides", "multiply by its sides: [32, 48, 160, 144]"),
        ("rec", [364, 1, 649, 980], "0 to 1000 of the sides", "multiply by its sides: [116, 0, 208, 235]"),
        ("rec", [0, 0, 240, 320], "a picture on its side", "swap x and y"),
        ("rec", [400, 300, 1600, 500], "a place outside of its image", "correct it"),
        ("rec", [-40, 0, 100, 100], "a place outside of its image", "correct it"),
        ("od_ap", [{"bbox_2d": [0, 0, 0.5, 1], "label": "a"}], "fractions of the sides", "[0, 0, 160, 240]"),
        (
            "od_ap50",
            [{"bbox_2d": [9, 9, 20, 20], "label": "a"}, {"bbox_2d": [500, 500, 990, 990], "label": "b"}],
            "0 to 1000 of the sides",
            "[3, 2, 6, 5]",
        ),
        ("point_in_box", [[1, 2, 30, 40], [500, 500, 600, 600]], "0 to 1000 of the sides", "divide by 1000"),
        ("point_distance", [0.5, 0.25], "fractions of the sides", "multiply by its sides: [160, 60]"),
        ("point_distance", [500, 900], "0 to 1000 of the sides", "multiply by its sides: [160, 216]"),
        ("mask_iou", {"centre": [50, 40], "coeffs": [20], "size": [320, 240]}, "a picture on its side", "swap"),
    ],
)
def test_the_doctor_says_what_a_gold_looks_like(
    folder: Path, tmp_path: Path, method: str, gold: object, looks: str, remedy: str
) -> None:
    rows = written(tmp_path, "r.jsonl", [{"image": "a.png", "problem": "<image>Where?", "solution": gold}])
    (problem,), _ = examine(*scan_records(rows, str(folder), reward_methods=method))
    assert f"which looks like {looks}" in problem.got and remedy in problem.remedy
    assert problem.expected == "pixels of the original image of 320x240"


@pytest.mark.parametrize(
    "gold", [[0, 0, 320, 240], [0, 0, 323, 240], [-2, 0, 10, 10], [319, 239, 320, 240], [0, 0, 1.5, 9]]
)
def test_golds_up_to_the_edges_are_no_defect(gold: list) -> None:
    assert place_problems(row("rec", gold, ("a.png",), image_wh=[320, 240])) == []


def test_without_a_size_only_fractions_are_known() -> None:
    assert place_problems(row("rec", BOX, ("a.png",))) == []
    (problem,) = place_problems(row("rec", [0.1, 0.2, 0.3, 0.4], ("a.png",)))
    assert str(problem) == (
        "a.jsonl:7: solution: got '[0.1, 0.2, 0.3, 0.4]', which looks like fractions of the sides, expected pixels of "
        "the original image; multiply by its sides"
    )


def test_golds_within_1000_on_large_pictures_are_a_hint_and_no_defect() -> None:
    def hints(golds: list, wh: list) -> tuple[str, ...]:
        statistics = PlaceStatistics()
        for gold in golds:
            statistics.add(row("rec", gold, ("a.png",), image_wh=wh))
        return statistics.hints()

    small = [[10, 20, 400, 990]] * 30
    assert "all 30 golds lie within 1000" in hints(small, [1600, 1200])[0]
    assert hints(small, [1000, 1000]) == hints(small[:9], [1600, 1200]) == ()
    assert hints([*small, [10, 20, 1400, 990]], [1600, 1200]) == ()


def lying(golds: list) -> tuple[str, ...]:
    statistics = PlaceStatistics()
    for gold in golds:
        record = row("rec", gold, ("a.png",), image_wh=[640, 480])
        statistics.add(record, is_sound=not place_problems(record))
    return statistics.hints()


def test_boxes_of_width_and_height_are_a_hint_over_a_dataset() -> None:
    xywh = [[300 + i, 100, 120, 200 + i] for i in range(15)] + [[10, 20, 200 + i, 300] for i in range(10)]
    (hint,) = lying(xywh)
    assert "all 25 boxes" in hint and "(xywh)" in hint and "15 have no x1 < x2" in hint
    assert lying(xywh[:19]) == lying([*xywh, [400, 300, 600, 400]]) == ()
    assert lying([[10, 20, 100, 90]] * 30) == lying([[100, 90, 10, 20]] * 30) == ()


def test_swapped_corners_are_named_with_the_box_in_order() -> None:
    (problem,) = place_problems(row("rec", [100, 120, 60, 40.5], ("a.png",), image_wh=[640, 480]))
    assert "whose corners are swapped" in str(problem) and "write [60, 40.5, 100, 120]" in str(problem)
    (problem,) = place_problems(row("rec", [100, 20, 60, 140], ("a.png",), image_wh=[640, 480]))
    assert "x1 < x2 and y1 < y2" in str(problem)


def test_the_doctor_asks_for_box_image_and_takes_it(folder: Path, tmp_path: Path, capsys) -> None:
    bad = written(tmp_path, "r.jsonl", [two_pictures(BOX), two_pictures(BOX, box_image=1)])
    flags = ["--image_folders", str(folder), "--reward_method", "rec", "--data_file_paths", bad]
    assert doctor(flags) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "r.jsonl:1 │ box_image" in said and "r.jsonl:2 │ solution" in said and "2 defects" in said
    good = written(tmp_path, "s.jsonl", [two_pictures(BOX, box_image=2)])
    assert examine(*scan_records(good, str(folder), reward_methods="rec"))[0] == []


def test_a_question_with_a_gold_answer_names_its_picture_too(folder: Path) -> None:
    pictures = (folder / "a.png", folder / "b.png")
    for gold, extra in ((str(BOX), {"box_image": 2}), (json.dumps({"image": 2, "bbox_2d": BOX}), {}), (None, {})):
        assert Question("Where?", pictures, gold, extra).record("rec").images == ("a.png", "b.png")
    assert Question("Where?", pictures, "[500, 400]", {"box_image": 2}).record("point_distance")
    for gold, message in (
        (str(BOX), "box_image: got no such field"),
        ('{"image": 1, "bbox_2d": [0, 0, 0.5, 1]}', "frac"),
    ):
        with pytest.raises(DataError, match=message):
            Question("Where?", pictures, gold).record("rec")


@pytest.mark.slow
def test_training_and_evaluation_refuse_such_rows_before_a_model_is_loaded(
    folder: Path, tmp_path: Path, tiny: str
) -> None:
    rows = [two_pictures(BOX), two_pictures(BOX, box_image=5), two_pictures([0.1, 0.1, 0.5, 0.5], box_image=2)]
    data = written(tmp_path, "r.jsonl", [*rows, two_pictures(BOX, box_image=2)])
    flags = ["--data_file_paths", data, "--image_folders", str(folder), "--output_dir", str(tmp_path / "out")]
    model = ["--model_name_or_path", tiny, "--task_type", "rec", "--max_steps", "1", "--num_generations", "2"]
    said = {}
    for name, main, extra in (("grpo", grpo, model), ("sft", sft, model[:6])):
        with pytest.raises(SystemExit) as stopped:
            main([*flags, *extra, "--per_device_train_batch_size", "2"])
        said[name] = str(stopped.value)
    words = ["--data_file_paths", data, "--image_folders", folder, "--output_dir", tmp_path / "e", "--model", tiny]
    with pytest.raises(DataError) as refused:
        run_evaluation(parser_of(None).parse_args([*map(str, words), "--task", "rec"]))
    said["eval"] = str(refused.value)
    for text in said.values():
        assert "r.jsonl:1: box_image: got no such field, and 2 images" in text
        assert "r.jsonl:2: box_image: got 5" in text and "r.jsonl:4" not in text
        assert "r.jsonl:3: solution: got '[0.1,0.1,0.5,0.5]', which looks like fractions" in text
