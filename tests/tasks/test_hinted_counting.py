"""The numbers in the questions: right in the share of the training rows that was asked for, and nowhere else."""

import pytest

from open_r1.tasks.counting import CountingImages
from open_r1.tasks.hinted_counting import HintedCounting


def questions(generator: HintedCounting, split: str) -> list:
    return [question for index in range(150) for question in generator.example(3, split, index).questions]


@pytest.mark.parametrize(("split", "truthful", "share"), [("train", 0.7, 0.7), ("train", 0.2, 0.2), ("ood", 0.7, 0)])
def test_numbers_are_right_in_their_share_of_the_training_rows_alone(split, truthful, share):
    asked = questions(HintedCounting(truthful=truthful), split)
    right = [question.extra["hint"] == question.answer for question in asked]
    assert sum(right) / len(right) == pytest.approx(share, abs=0.08 * (share > 0))
    assert all(question.question.endswith(f" Somebody counted {question.extra['hint']}.") for question in asked)


def test_pictures_and_answers_are_those_of_counting():
    hinted, plain = HintedCounting().example(0, "train", 5), CountingImages().example(0, "train", 5)
    assert hinted.images[0].tobytes() == plain.images[0].tobytes()
    assert [question.answer for question in hinted.questions] == [question.answer for question in plain.questions]
