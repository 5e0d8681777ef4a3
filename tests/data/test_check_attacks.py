"""The doctor's other half: what cheap strategies earn by a user's rewards, and what it says about it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.fake_endpoint import Reply, judge_prompt, serving
from PIL import Image

from open_r1 import check

pytestmark = pytest.mark.usefixtures("all_is_tried")

BAD = """
def always(completion, record):
    return 1.0

def contains_gold(completion, record):
    return float(record.solution in completion)

def long_is_good(completion, record):
    return min(len(completion) / 1000, 1.0)

def any_box(completion, record):
    return float(completion.count(",") >= 3)

def has_tags(completion, record):
    return float("<answer>" in completion)

def gold_words(completions, solution, **columns):
    return [float(all(w in c[0]["content"] for w in s.split())) for c, s in zip(completions, solution)]

def picture_is_wide(completion, record, images):
    return float(images[0].width > images[0].height)

def needs_training(completions, trainer_state, **columns):
    return [0.0] * len(completions)

def raises_on_empty(completion, record):
    return 1 / len(completion)

def last_digit(completion, record):
    return float(completion.endswith(record.solution[-1:] + "</answer>"))

def exact(completion, record):
    return float(completion.endswith(f"<answer>{record.solution}</answer>") and completion.count("<answer>") == 1)
"""


def row(number: int, answer: object, question: str = "<image>What is it?", **fields: object) -> dict:
    talk = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": number, "image": "p.png", "conversations": talk, **fields}


NUMBERS = [row(n, str(n % 7 + 2)) for n in range(21)]
BOXES = [row(n, [n, 2 * n, n + 20, 2 * n + 15]) for n in range(12)]
ORACLES = ["hedge", "hedge_gold_last", "gold_in_thinking", "repeated_tags", "every_gold", "long_text"]
SIXTY_PERCENT_YES = [row(n, "Yes" if n % 5 < 3 else "No") for n in range(20)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (120, 90)).save(tmp_path / "p.png")
    (tmp_path / "bad.py").write_text(BAD)
    return tmp_path


def run(rows: Sequence[dict], *flags: str) -> int:
    Path("t.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    return check.main(["--data_file_paths", "t.jsonl", "--image_folders", ".", *flags])


def share(out: str, strategy: str) -> str:
    """The share of the right answer's in the first column of rewards."""
    return re.search(rf"^│ {strategy} +│[^│]+│ +\S+ +(\S+) │", out, re.M)[1]


@pytest.mark.parametrize(
    ("reward", "rows", "strategies"),
    [
        ("always", NUMBERS, "empty no_content dots most_frequent another_gold zero long_text to_judge"),
        ("contains_gold", NUMBERS, "hedge hedge_gold_last gold_in_thinking repeated_tags every_gold long_text"),
        ("long_is_good", NUMBERS, "dots question_copied long_text to_judge"),
        ("any_box", BOXES, "most_frequent another_gold whole_image centre_box box_grid"),
        ("has_tags", NUMBERS, "no_content dots another_gold dont_know"),
        ("gold_words", NUMBERS, "hedge gold_in_thinking repeated_tags long_text"),
        ("picture_is_wide", NUMBERS, "empty dots"),
    ],
)
def test_a_reward_that_pays_for_garbage_is_found(
    reward: str, rows: list[dict], strategies: str, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    method = ("--reward_method", "rec") if rows is BOXES else ()
    assert run(rows, "--reward_funcs", f"bad.py:{reward}", *method) == 1
    out = capsys.readouterr().out
    named = re.search(rf"^{reward} pays over 0.5 of what the right answer earns for: (.+)$", out, re.M)[1].split(", ")
    assert set(strategies.split()) <= set(named)
    assert f"\n0 defects\n{len(named)} findings of cheap strategies\n" in out
    assert "Correct the reward" in out and "for example" in out


@pytest.mark.parametrize(
    "flags",
    [
        ("--reward_funcs", "accuracy", "format"),
        ("--reward_funcs", "bad.py:exact"),
        ("--reward_funcs", "accuracy", "format", "length", "repetition"),
        ("--prompt_mode", "direct"),
        ("--reward_funcs", "bad.py:always", "--attack_limit", "1"),
        ("--reward_funcs", "bad.py:always", "accuracy", "--allow_attack", "always"),
        ("--reward_funcs", "bad.py:contains_gold", "--allow_attack", *ORACLES),
    ],
    ids=lambda flags: " ".join(flags[1:4]),
)
def test_a_sound_reward_and_an_allowed_one_are_clean(
    flags: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(NUMBERS, *flags) == 0
    out = capsys.readouterr().out
    assert "\n0 defects\n" in out and "finding" not in out
    assert "always pays it" not in out or "--attack_limit" in flags  # pairs of an allowed reward are not tried
    assert share(out, "gold") == "100%"


def test_a_guess_may_earn_the_frequency_of_the_most_frequent_gold(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(SIXTY_PERCENT_YES, "--reward_method", "yes_no") == 0
    out = capsys.readouterr().out
    assert share(out, "yes") == share(out, "most_frequent") == "60%" and share(out, "dont_know") == "0%"
    assert "no cheap strategy earns more than luck or 0.5" in out
    assert run(SIXTY_PERCENT_YES, "--reward_method", "yes_no", "--reward_funcs", "bad.py:has_tags") == 1
    assert " dots" in capsys.readouterr().out


def test_one_gold_in_all_rows_hides_no_bad_reward(folder: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [row(n, "4") for n in range(6)]
    assert run(rows) == 0
    assert run(rows, "--reward_funcs", "bad.py:always") == 1
    assert "earns for: empty" in capsys.readouterr().out


def test_a_low_limit_finds_the_guess_only_beyond_its_luck(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert (
        run(BOXES, "--reward_method", "rec", "--attack_limit", "0.01") == 1
    )  # overlap with a wrong box pays a little
    assert "another_gold" in re.search(r"earns for: (.+)$", capsys.readouterr().out, re.M)[1]


def test_methods_of_one_file_have_columns_of_their_own(folder: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [*NUMBERS, *(each | {"accu_reward_method": "rec"} for each in BOXES)]
    assert run(rows, "--reward_funcs", "accuracy") == 0
    out = capsys.readouterr().out
    assert "accuracy (default)" in out and "accuracy (rec)" in out
    assert "another row's gold: accuracy (default) pays it in 0 of 42 pairs (0.00%)" in out


def test_false_pay_is_counted_with_examples(folder: Path, capsys: pytest.CaptureFixture) -> None:
    rows = [row(n, str(n)) for n in range(10, 30)]
    assert run(rows, "--reward_funcs", "bad.py:last_digit") == 1
    out = capsys.readouterr().out
    assert "earns for: hedge_gold_last\n" in out  # of twenty other golds it pays one
    assert "another row's gold: last_digit pays it in 20 of 380 pairs (5.26%)" in out
    assert re.search(r"^  t\.jsonl:\d+'s gold '1(\d)' is paid for t\.jsonl:\d+'s '2\1'$", out, re.M)


def test_a_reward_that_raises_is_a_finding_and_one_of_training_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(NUMBERS, "--reward_funcs", "bad.py:raises_on_empty") == 1
    out = capsys.readouterr().out
    assert "ZeroDivisionError: division by zero" in out and "\n1 finding of cheap strategies\n" in out
    assert run(NUMBERS, "--reward_funcs", "bad.py:needs_training", "accuracy") == 0
    assert "needs_training: not tried: it asks for trainer_state" in capsys.readouterr().out


@pytest.mark.slow
def test_a_judge_is_asked_only_on_request(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_MODEL", raising=False)
    rows = [*NUMBERS, row(99, "a red car", accu_reward_method="llm")]
    assert run(rows, "--reward_funcs", "accuracy") == 0
    out = capsys.readouterr().out
    assert "1 of 22 rows are graded by a judge, which is not asked" in out and "; --ask_judge asks it" in out
    stood_in = [line.split("│")[-2].split() for line in out.splitlines() if "judge_" in line]
    assert len(stood_in) == 16 and all(cells[-2:] == ["0.00", "0%"] for cells in stood_in)
    assert "in 40 of 40 groups, marked or ranked in one call (JUDGE_GROUP), a right answer keeps its pay" in out
    with pytest.raises(SystemExit) as caught:
        run(rows, "--ask_judge")
    assert caught.value.code == 2 and "JUDGE_MODEL: not set" in capsys.readouterr().err


@pytest.mark.slow
def test_a_judge_that_is_fooled_is_found(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fooled(request: dict, served: int) -> Reply:
        nonce, data = judge_prompt(request)
        hedges = " or " in data["candidate"] and data["reference"] in data["candidate"]
        return Reply(json.dumps({"nonce": nonce, "equal": hedges or data["question"] == "What is 1 + 1?"}))

    rows = [row(n, f"a {color} car", accu_reward_method="llm") for n, color in enumerate(("red", "blue", "green"))]
    with serving(fooled) as server:
        for name, value in (server.environment() | {"JUDGE_MODEL": "judge"}).items():
            monkeypatch.setenv(name, value)
        assert run(rows, "--reward_funcs", "accuracy", "--ask_judge") == 1
    assert "earns for: hedge, hedge_gold_last\n" in capsys.readouterr().out
    assert 0 < len(server.requests) < 100


def test_rows_with_defects_are_left_out(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "cut.png").write_bytes((folder / "p.png").read_bytes()[:60])
    rows = [*NUMBERS, row(90, "no box", accu_reward_method="rec"), row(91, "3") | {"image": "gone.png"}]
    rows += [row(92, "3") | {"image": "cut.png"}]
    assert run(rows, "--reward_funcs", "accuracy") == 1
    out = capsys.readouterr().out
    assert "\n3 defects\n" in out and "on 21 rows" in out and "finding" not in out


def test_boxes_are_tried_on_the_picture_that_the_row_names(folder: Path, capsys: pytest.CaptureFixture) -> None:
    Image.new("RGB", (400, 300)).save(folder / "large.png")
    pictures = {"images": ["p.png", "large.png"], "box_image": 2}
    rows = [row(n, [0, 0, 400, 300 - n], "Where?", **pictures) for n in range(6)]
    for each in rows:
        del each["image"]
    assert run(rows, "--reward_method", "rec") == 1  # the whole of the second picture is right
    assert share(capsys.readouterr().out, "whole_image") == "99%"


def test_max_rows_bounds_the_rows_answered(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(NUMBERS, "--max_rows", "5") == 0
    assert "on 5 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--attack_limit", "2"], "--attack_limit: got 2, expected a share from 0 to 1"),
        (["--attack_limit", "nan"], "--attack_limit: got nan, expected a share from 0 to 1"),
        (["--allow_attack", "hegde"], "--allow_attack: got 'hegde', expected one of empty"),
        (["--reward_funcs", "acuracy"], "reward: got 'acuracy', expected one of accuracy"),
        (["--reward_funcs", "gone.py:f"], "gone.py"),
        (["--reward_funcs", "bad.py:gone"], "bad.py has no function 'gone'"),
        (["--prompt_mode", "loud"], "invalid choice"),
    ],
)
def test_flags_that_cannot_act_are_refused(
    flags: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(NUMBERS, *flags)
    assert caught.value.code == 2 and message in capsys.readouterr().err
