"""False pay: over all pairs of different golds, one is not paid as the answer to another; the rates are printed."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from helpers.repository import REPO, SHARED

from open_r1.data.record import Record
from open_r1.report.attack_table import false_pay_text
from open_r1.rewards.attacks import FalsePay, attacked, other_golds
from open_r1.rewards.trl_adapter import BatchReward

CORPUS = sorted((REPO / "tests" / "rewards" / "corpus").glob("*.jsonl"))
# no two of one line are equal to a person
NUMBERS = "3|30|-3|0.3|1/3|3 1/2|13|3:4|4:3|3!|33|1.3e5"
TERMS = r"x|-x|3x|3y|x+3|x-3|3-x|x^2|x^3|\sqrt{x}|2\sqrt{3}|3\sqrt{2}|\pi|2\pi|\frac{x}{3}|\frac{3}{x}|\sin x|e^x"
RELATIONS = r"x<3|x>3|x\le 3|x=3|x\ne 3|y=3|x=-3|x=3, y=4|x=4, y=3|1<x<3|x<1 or x>3"
TUPLES = r"(1,4)|[1,4]|(1,4]|[1,4)|(4,1)|(1,4.5)|(-1,4)|(1,4,2)|(-\infty,4)"
UNITS = "5 cm|5 m|5 kg|5°|5 cm²|5 km/h|50 cm²|6 cm"
WORDS = "red|blue|a red car|a car|the red bus|Paris|not red|yes|no|left|right of it|12 March"


def records(golds: str, method: str) -> list[Record]:
    return [Record("", (), "", (), gold, {}, f"{n}", method) for n, gold in enumerate(golds.split("|"), 1)]


def false_pay(rows: list[Record], most: int = 20_000) -> list[FalsePay]:
    targets = attacked([BatchReward("accuracy")], rows, ask_judge=False)
    results = [other_golds(target, lambda items, title, total: items, most, seconds=600) for target in targets]
    for result in results:
        print(false_pay_text(result))
    return results


@pytest.mark.slow
@pytest.mark.parametrize(
    ("golds", "method"),
    [
        *((golds, "math") for golds in (NUMBERS, TERMS, RELATIONS, TUPLES, UNITS)),
        *((golds, "default") for golds in (WORDS, NUMBERS)),
    ],
)
def test_no_gold_is_paid_for_another(golds: str, method: str) -> None:
    (result,) = false_pay(records(golds, method))
    count = len(golds.split("|"))
    assert (result.pairs, result.paid) == (count * (count - 1), ())


@pytest.mark.slow
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_rates_of_the_corpus_are_small(path: Path) -> None:
    """Beside answers of partial credit, what is paid are golds of one meaning in two spellings ("AC" and "A, C")."""
    seen, rows = set(), []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        row = json.loads(line)
        gold = row["gold"] if isinstance(row["gold"], str) else json.dumps(row["gold"])
        if (row["method"], gold) not in seen and row["method"] in ("mcq", "digits", "all_match", "math"):
            seen.add((row["method"], gold))
            rows.append(Record("", (), "", (), gold, row, f"{path.name}:{number}", row["method"]))
    for result in false_pay(rows, most=600):
        assert len(result.paid) <= 0.05 * result.pairs, false_pay_text(result)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "field", "method"),
    [
        ("geoqa/geoqa_test_prompts.jsonl", "ground_truth", "math"),
        ("mathv/testmini60.jsonl", "answer", "default"),
        ("superclevr/superclevr_test200_counting_problems.jsonl", "ground_truth", "default"),
    ],
)
def test_the_rates_of_real_golds_are_small(file: str, field: str, method: str) -> None:
    """What is paid there are units that are left out: 9 cm and 9."""
    path = SHARED / file
    if not path.is_file():
        pytest.skip(f"../shared/data/{file} is absent")
    lines = map(json.loads, path.read_text().splitlines())
    rows = [Record("", (), "", (), str(row[field]), {}, f"{n}", method) for n, row in enumerate(lines, 1)]
    for result in false_pay(rows, most=400):
        assert len(result.paid) <= 0.01 * result.pairs, false_pay_text(result)


def test_the_script_prints_rates_and_writes_the_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    golds, out = tmp_path / "golds.jsonl", tmp_path / "pairs.tsv"
    rows = [
        {"answer": 7},
        {"answer": "7 cm"},
        {"answer": [1, 2]},
        {"answer": "7", "method": "yes_no"},
    ]  # no yes, no no
    golds.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(sys, "argv", ["false_pay.py", str(golds), "--gold", "answer", "--pairs", str(out)])
    runpy.run_path(str(REPO / "local_scripts" / "dev" / "false_pay.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "golds.jsonl: 3 of 4 golds earn the maximum" in printed and "pairs" in printed
    assert out.is_file()
