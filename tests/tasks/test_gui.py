"""The multi-image task: the public rows load as they are, and the toy screenshots show what their gold answer says."""

import json
from collections import Counter

import numpy as np
import pytest
from helpers.repository import make_dataset

from open_r1.data.chat import image_count, messages
from open_r1.data.jsonl_dataset import load_records
from open_r1.report.examination import check_gold
from open_r1.rewards.gold import gold_score
from open_r1.rewards.registry import accuracy
from open_r1.tasks.gui import (
    ACCENTS,
    NO_DEFECT,
    NO_RESPONSE,
    SWITCH_CORNERS,
    UNEXPECTED,
    SwitchWindows,
    draw_screenshot,
)
from open_r1.tasks.registry import TASKS

TASK = TASKS["gui"]


@pytest.fixture(scope="module")
def public(shared, tmp_path_factory):
    """The public rows, with an empty file in the place of each screenshot, as those are not there."""
    file, folder = shared / "gui" / "gui_multi-image.jsonl", tmp_path_factory.mktemp("screenshots")
    for line in file.read_text().splitlines():
        for image in json.loads(line)["image"]:
            (folder / image).touch()
    return load_records(file, folder, reward_methods=TASK.method)


def test_the_public_file_loads_as_it_is(public):
    assert len(public) == 1797
    golds = Counter()
    for record in public:
        assert len(record.images) == 2 and "<image>" not in record.turns[-1].text
        (user,) = messages(record, TASK.prompts["think"])
        assert [part["type"] for part in user["content"]] == ["image", "image", "text"]
        assert gold_score(record) == (1, 1) and accuracy("<answer>banana</answer>", record) == 0
        golds[record.solution] += 1
    assert golds == {NO_RESPONSE: 906, UNEXPECTED: 891}


def test_one_defect_is_not_paid_for_the_other(public):
    for record in public.select(range(20)):
        other = UNEXPECTED if record.solution == NO_RESPONSE else NO_RESPONSE
        both = f"<answer>{record.solution} or {other}</answer>"
        assert accuracy(f"<answer>{other}</answer>", record) == accuracy(both, record) == 0


@pytest.mark.parametrize("split", SwitchWindows.splits)
@pytest.mark.parametrize("no_defect", [False, True])
def test_screenshots_show_the_gold_answer(split, no_defect):
    counts = Counter()
    for index in range(120):
        example = SwitchWindows(no_defect).example(0, split, index)
        (question,) = example.questions
        before, after = (np.asarray(image).astype(int) for image in example.images)
        assert before.shape == after.shape == (112, 112, 3)
        changed = np.argwhere((before != after).any(axis=2))
        flipped = [k for k in range(4) if question.extra["before"][k] != question.extra["after"][k]]
        clicked = SWITCH_CORNERS.index(question.extra["clicked"])
        expected = {NO_RESPONSE: [], NO_DEFECT: [clicked]}.get(question.answer, flipped)
        assert flipped == expected and (question.answer == UNEXPECTED) == (len(flipped) == 1 and flipped != [clicked])
        assert (len(changed) > 0) == bool(flipped)
        if flipped:  # the change is where the flipped switch is: in its quarter of the window, in its row and column
            y, x = changed.mean(axis=0)
            alone = [np.asarray(draw_screenshot([j == k for j in range(4)], (0, 0), (9, 9, 9), 112)) for k in range(4)]
            centres = [np.argwhere((image == 9).all(axis=2)).mean(axis=0) for image in alone]
            assert np.argmin([abs(centre - (y, x)).sum() for centre in centres]) == flipped[0]
        assert f"[click on the switch in the {question.extra['clicked']}.]" in question.question
        counts[question.answer] += 1
    assert set(counts) == {NO_RESPONSE, UNEXPECTED} | ({NO_DEFECT} if no_defect else set())
    assert min(counts.values()) >= 25  # 60 or 40 expected


def test_held_out_windows_have_other_colours():
    assert not set(ACCENTS["train"]) & set(ACCENTS["heldout"])
    colors = {split: set() for split in SwitchWindows.splits}
    for split, colours in colors.items():
        for index in range(40):
            pixels = np.asarray(SwitchWindows().example(0, split, index).images[0]).reshape(-1, 3)
            colours |= {tuple(color) for color in np.unique(pixels, axis=0).tolist() if len(set(color)) > 1}
    assert colors == {split: set(accents) for split, accents in ACCENTS.items()}


def test_written_rows_depend_on_seed_and_index_alone_and_pass_the_doctor(tmp_path):
    for name, rows in (("short", 4), ("long", 9)):
        flags = ("--rows", rows, "--heldout_rows", 3, "--no_defect", "true")
        make_dataset("gui", tmp_path / name, *flags)
    short, long = ((tmp_path / name / "train.jsonl").read_text().splitlines() for name in ("short", "long"))
    assert len(long) == 9 and long[:4] == short
    for image in json.loads(short[3])["image"]:
        assert (tmp_path / "short" / image).read_bytes() == (tmp_path / "long" / image).read_bytes()
    data = load_records([tmp_path / "long" / f"{split}.jsonl" for split in SwitchWindows.splits], tmp_path / "long")
    assert len(data) == 12 and image_count(messages(data[0], TASK.prompts["direct"])) == 2
    assert not [problem for record in data for problem in check_gold(record)]


def test_task():
    assert (TASK.method, TASK.rewards, TASK.is_right(1.0), TASK.is_right(0.5)) == (
        "all_match",
        ("accuracy", "format"),
        True,
        False,
    )
    assert set(TASK.prompts) == {"think", "direct"}
