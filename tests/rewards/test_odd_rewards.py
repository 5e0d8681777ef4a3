"""What a user's reward returns, and does to its arguments: each odd value counts as it should, or is named."""

import math
from pathlib import Path

import pytest
from helpers.faulty_rewards import records

from open_r1.errors import UsageError
from open_r1.rewards.trl_adapter import BatchReward, Bounds, RewardError

COUNTED = {  # Python expression -> the reward that it is
    "1": 1.0,
    "True": 1.0,
    "-0.0": 0.0,
    "None": None,
    "1e6": 1e6,
    "-10**6": -1e6,
    "5e-324": 5e-324,
    "fractions.Fraction(1, 4)": 0.25,
    "decimal.Decimal('0.5')": 0.5,
    "numpy.float32(0.5)": 0.5,
    "numpy.int64(3)": 3.0,
    "numpy.bool_(True)": 1.0,
    "numpy.array(0.5)": 0.5,
    "torch.tensor(0.5, requires_grad=True)": 0.5,
    "torch.tensor([0.5])": 0.5,
    "Half()": 0.5,
}
REFUSED = {  # Python expression -> how the message shows it
    "1e308": "1e+308",
    "-1e7": "-10000000.0",
    "10**400": "1000000000000000000000000000000000000",
    "-10**5000": "a value of type int",
    "math.nan": "nan",
    "math.inf": "inf",
    "decimal.Decimal('NaN')": "Decimal('NaN')",
    "decimal.Decimal('sNaN')": "Decimal('sNaN')",
    "numpy.float16(60000) * 2": "np.float16(inf)",
    "'1'": "'1'",
    "b'1'": "b'1'",
    "1j": "1j",
    "[1.0]": "[1.0]",
    "(1.0, 'reason')": "(1.0, 'reason')",
    "{'score': 1.0}": "{'score': 1.0}",
    "object": "<class 'object'>",
    "torch.tensor([0.5, 1.0])": "tensor([0.5000, 1.0000])",
    "numpy.array(['a'])": "array(['a']",
    "Half": "<class",
    "Raises()": "a value of type Raises",
}
BATCHES = {  # Python expression of two values' batch -> the rewards
    "[1.0, 2.0]": [1.0, 2.0],
    "(1.0, None)": [1.0, None],
    "(number for number in (1, 2))": [1.0, 2.0],
    "torch.tensor([1.0, 2.0])": [1.0, 2.0],
    "numpy.array([1.0, 2.0])": [1.0, 2.0],
    "map(float, '12')": [1.0, 2.0],
}
NO_BATCHES = {  # Python expression -> how the message shows it
    "{1.0: 'a', 2.0: 'b'}": "returned the dict {1.0: 'a', 2.0: 'b'}, expected a list of 2 values",
    "{0: 1.0, 1: 2.0}.keys()": "returned the dict_keys dict_keys([0, 1]), expected a list of 2 values",
    "{1.0, 2.0}": "returned the set {1.0, 2.0}, expected a list of 2 values",
    "'12'": "returned the str '12', expected a list of 2 values",
    "b'12'": "returned the bytes b'12', expected a list of 2 values",
    "1.0": "returned 1.0, expected a list of 2 values",
    "None": "returned None, expected a list of 2 values",
    "torch.tensor(1.0)": "returned tensor(1.), expected a list of 2 values",
    "[1.0]": "returned 1 values, expected a list of 2 values",
    "[]": "returned 0 values, expected a list of 2 values",
    "[1.0, 2.0, 3.0]": "returned 3 values, expected a list of 2 values",
    "[[1.0], [2.0]]": "returned [1.0], expected a number from -1e+06 to 1e+06",
}
FILE = """
import decimal, fractions, math, numpy, torch

class Half:
    def __float__(self): return 0.5

class Raises:
    def __float__(self): raise KeyError("no number")
    def __repr__(self): raise KeyError("no text")

def one(completion, record): return eval(completion)
def batch(completions, **columns): return eval(completions[0])
by_lambda = lambda completion, record: len(completion)

class Caller:
    def __call__(self, completion, record): return len(completion)

by_object = Caller()
async def waits(completion, record): return 1.0

def changes(completion, record, images):
    record.extra["seen"] = record.extra.get("seen", 0) + 1
    record.extra["boxes"].append(1)
    object.__setattr__(record, "solution", "changed")
    images[0].putpixel((0, 0), (255, 255, 255))
    return record.extra["seen"]

def batch_changes(completions, prompts, record, images, boxes, **columns):
    for row in record: row.extra["seen"] = 1
    for picture in images: picture[0].putpixel((0, 0), (255, 255, 255))
    boxes[0].append(1)
    prompts[0] = completions[0] = "changed"
    return [1.0] * len(completions)

def unchanged(completion, record, images):
    return float((record.solution, dict(record.extra), images[0].getpixel((0, 0))) == ("3", {"boxes": [0]}, (0, 0, 0)))
"""
PLACES = pytest.mark.parametrize("in_process", [False, True], ids=["worker", "in_process"])


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rewards") / "mine.py"
    path.write_text(FILE)
    return path


def graded(
    path: Path, name: str, completions: list[str], in_process: bool, rows: list | None = None, **columns
) -> list:
    rows = rows or records(len(completions))
    reward = BatchReward(f"{path}:{name}", Bounds(seconds=60, in_process=in_process))
    return reward([""] * len(rows), completions, record=rows, **columns)


@PLACES
def test_numbers_of_every_kind_count(mine, in_process):
    values = graded(mine, "one", list(COUNTED), in_process)
    assert dict(zip(COUNTED, values, strict=True)) == COUNTED
    assert all(math.copysign(1, value) == 1 for value in values if value == 0)


@PLACES
@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_no_bounded_number_stops_the_run_with_its_row(mine, in_process, expression):
    with pytest.raises(RewardError) as error:
        graded(mine, "one", ["1.0", expression], in_process)
    assert str(error.value).startswith(f"a.jsonl:2: reward {mine}:one: returned {REFUSED[expression]}")
    assert str(error.value).endswith(", expected a number from -1e+06 to 1e+06, or None")


@PLACES
@pytest.mark.parametrize("expression", BATCHES)
def test_a_batch_may_be_any_sequence_of_numbers(mine, in_process, expression):
    assert graded(mine, "batch", [expression] * 2, in_process) == BATCHES[expression]


@PLACES
@pytest.mark.parametrize("expression", NO_BATCHES)
def test_a_batch_without_one_value_a_completion_stops_the_run(mine, in_process, expression):
    with pytest.raises(RewardError) as error:
        graded(mine, "batch", [expression] * 2, in_process)
    assert NO_BATCHES[expression] in str(error.value) and "Traceback" not in str(error.value)


@pytest.mark.parametrize("name", ["by_lambda", "by_object"])
def test_a_lambda_and_an_object_are_functions_too(mine, name):
    BatchReward(f"{mine}:{name}").start()
    assert graded(mine, name, ["a", "abc"], in_process=False) == [1.0, 3.0]


def test_an_async_function_is_refused_at_start(mine):
    with pytest.raises(ValueError, match="waits: got an async function, expected a plain one; remove async"):
        BatchReward(f"{mine}:waits").start()


@PLACES
@pytest.mark.parametrize("name", ["changes", "batch_changes"])
def test_a_reward_that_changes_its_arguments_changes_no_other_reward_or_row(mine, name, in_process):
    from PIL import Image

    record = records(1)[0].with_extra(boxes=[0])
    picture, completions, prompts = Image.new("RGB", (2, 2)), ["a", "b"], ["q", "q"]
    given = {"rows": [record] * 2, "images": [[picture]] * 2}
    assert graded(mine, name, completions, in_process, **given) == [1.0, 1.0]
    assert graded(mine, "unchanged", completions, in_process, **given) == [1.0, 1.0]
    assert (completions, prompts, record) == (["a", "b"], ["q", "q"], records(1)[0].with_extra(boxes=[0]))


@pytest.mark.parametrize("lowest", ["1e7", "math.nan", "-10**400", "'low'"])
def test_a_minimum_has_the_bounds_of_a_reward(tmp_path, lowest):
    path = tmp_path / "mine.py"
    path.write_text(f"import math\ndef f(completion, record): return 1.0\nf.minimum = {lowest}\n")
    with pytest.raises((ValueError, UsageError), match=r"minimum: got .*, expected a finite number from -1e"):
        BatchReward(f"{path}:f").start()
