"""The counting generator: answers are what is drawn, difficulty does what it says, rows depend on seed and index."""

from collections import Counter

import pytest
from PIL import Image

from open_r1.data.record import Record
from open_r1.rewards.gold import gold_completion
from open_r1.rewards.registry import METHODS, accuracy
from open_r1.tasks.counting import COUNTING, CountingImages, kind_question, similar_pairs
from open_r1.tasks.registry import TASKS
from open_r1.tasks.shapes import COLORS, pairs


def pair_of(name: str) -> tuple[str, str]:
    _, color, shape = name.split()
    return color, shape


@pytest.mark.parametrize("split", CountingImages.splits)
def test_answers_are_the_items_drawn(split):
    for index in range(30):
        example = CountingImages().example(0, split, index)
        every, one = example.questions
        names = [pair_of(name) for name in every.extra["items"]]
        assert every.answer == str(len(names)) and set(names) <= set(pairs(split))
        counts = {kind_question(pair): names.count(pair) for pair in pairs(split)}
        assert one.answer == str(counts[one.question])
        items = {color for _, color in example.images[0].getcolors(maxcolors=1000)} - {(0, 0, 0)}
        assert items == {COLORS[color] for color, _ in names}


def test_every_number_occurs_about_equally_often():
    answers = Counter(CountingImages(most=4).example(1, "train", index).questions[0].answer for index in range(400))
    assert set(answers) == {"1", "2", "3", "4"}
    assert min(answers.values()) > 70  # 100 expected, s.d. 8.7


@pytest.mark.parametrize("distractors", [0, 1, 3])
def test_so_many_of_the_others_are_near_misses(distractors):
    for index in range(100):
        _, one = CountingImages(most=7, distractors=distractors).example(2, "train", index).questions
        target = next(pair for pair in pairs("train") if kind_question(pair) == one.question)
        others = [pair_of(name) for name in one.extra["items"] if pair_of(name) != target]
        assert sum(pair in similar_pairs(target, pairs("train")) for pair in others) == min(distractors, len(others))


def test_rows_depend_on_options_seed_split_and_index_alone():
    def pixels(seed: int, split: str, index: int, **options: int) -> bytes:
        return CountingImages(**options).example(seed, split, index).images[0].tobytes()

    assert pixels(0, "train", 5) == pixels(0, "train", 5)
    assert len({pixels(0, "train", 5), pixels(1, "train", 5), pixels(0, "heldout", 5), pixels(0, "train", 6)}) == 4
    assert Image.frombytes("RGB", (224, 224), pixels(0, "train", 5, size=224)).size == (224, 224)


@pytest.mark.parametrize("mode", ["think", "direct"])
def test_gold_pays_everything_and_garbage_nothing(mode):
    assert TASKS["counting"] is COUNTING and COUNTING.prompts[mode].count("{question}") == 1
    for index in range(5):
        for question in CountingImages().example(0, "train", index).questions:
            record = Record("1", (), "", (), question.answer, dict(question.extra), accu_reward_method=COUNTING.method)
            assert accuracy(gold_completion(record), record) == METHODS[COUNTING.method].maximum == 1.0
            for wrong in (
                "",
                "<answer></answer>",
                "<answer>many</answer>",
                f"<answer>{int(question.answer) + 1}</answer>",
            ):
                assert accuracy(wrong, record) == 0.0
