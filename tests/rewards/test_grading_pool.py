"""math-verify in workers: agrees with its own test cases, survives hostile input, is fast, leaves the parent alone."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import math_verify
import pytest
from helpers.cpu_time import slowness
from helpers.processes import children_of
from helpers.repository import SHARED as DATA

from open_r1.rewards.math import same_math
from open_r1.rewards.sandbox import math_verify as pool
from open_r1.rewards.sandbox import worker_pool as workers
from open_r1.score import main as score_main

HOSTILE = {
    "power tower": "9**9**9**9",
    "nested powers": r"\boxed{\dfrac{5^{(5^{(5^{(5^5)})}-4)}-5}{16}}",
    "latex tower": "$10^{10^{10^{10}}}$",
    "factorials": "$99999!99999!99999!!$",
    "integral": r"$\int_0^{\infty} x^{x^x} dx$",
    "1 MB of digits": "7" * 1_000_000,
    "parentheses": "(" * 50_000 + ")" * 50_000,
    "roots": r"$" + r"\sqrt{" * 600 + "2" + "}" * 600 + "$",
    "open fractions": r"$\frac{" * 5_000,
    "NUL": "\x00",
    "lone surrogate": "$\ud800$",
}


@pytest.fixture
def two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline that gradings have in runs, for what hangs."""
    monkeypatch.setenv("OPEN_R1_GRADE_SECONDS", "2")


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_come_back_in_time(name: str, two_seconds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.warm_up()
    start = time.monotonic()
    assert same_math("$7$", HOSTILE[name]) is False
    assert time.monotonic() - start < pool.deadline() + 60  # the rest is for a busy machine
    monkeypatch.setattr(pool, "call_in_worker", None)
    assert same_math("$7$", HOSTILE[name]) is False  # remembered, not waited for again


@pytest.mark.slow
def test_timeouts_and_crashes_are_counted_and_the_pool_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = workers.grading_counts()["timeouts"]
    with monkeypatch.context() as patch:
        patch.setenv("OPEN_R1_GRADE_SECONDS", "2")
        assert same_math("$8$", "$7^{9^{9^{9}}}$") is False
    assert workers.grading_counts()["timeouts"] == before + 1
    assert same_math("$8$", "$16/2$") is True


@pytest.mark.slow
@pytest.mark.parametrize("power", [6, 5])
def test_killed_workers_are_replaced_busy_or_idle(power: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.warm_up()
    with ThreadPoolExecutor(1) as thread, monkeypatch.context() as patch:
        patch.setenv("OPEN_R1_GRADE_SECONDS", "5")
        busy = thread.submit(same_math, "$8$", f"${power}^{{9^{{9^{{9}}}}}}$")
        time.sleep(0.5)
        for server in children_of(os.getpid()):
            for worker in children_of(server):  # one of them grades, the others wait
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
        assert busy.result(timeout=300) is False
    assert same_math("$8$", f"${8 * power}/{power}$") is True


NEWLINE = "Answer \\( \n 9 \n \\)"  # math-verify wants no answer here; a person reads 9


@pytest.mark.slow
def test_math_verifys_own_cases_through_the_reward(tmp_path: Path) -> None:
    path = DATA / "math" / "math_verify_cases.jsonl"
    if not path.exists():
        pytest.skip(f"real data is absent: {path}")
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    lines = (json.dumps({"gold": case["gold"], "completion": case["prediction"]}) for case in cases)
    rows.write_text("\n".join(lines))
    assert score_main(["--reward_method", "math", "--rows", str(rows), "--out", str(out)]) == 0
    scores = [json.loads(line)["score"] for line in out.read_text().splitlines()]
    wrong = [case for case, score in zip(cases, scores, strict=True) if score != case["expected"]]
    assert len(cases) == 134 and [case["prediction"] for case in wrong if case["prediction"] != NEWLINE] == []
    assert all(plain_verdict(case["gold"], case["prediction"]) != case["expected"] for case in wrong)


def plain_verdict(gold: str, answer: str) -> bool:
    """What math-verify says of two texts by itself, with its own settings."""
    parsed = (math_verify.parse(text, parsing_timeout=None) for text in (gold, answer))
    return math_verify.verify(*parsed, timeout_seconds=None)


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("5√{3}", "5", False),  # math-verify alone reads both as 5
        ("5√{3}", r"5\sqrt{3}", True),
        ("5√{3}", r"The answer is 5\sqrt{3} cm.", True),
        ("5√{3}cm", "5√3 m", False),
        ("4πcm", r"4\pi", True),
        ("4πcm", "4", False),
        ("9米", "9 meters", True),
        ("8π平方米", "8π m²", True),
        ("5cm^2^", r"5\text{ cm}^2", True),
        ("140°", r"140^\circ", True),
        ("140°", "The angle is 140°.", True),
        ("140°", "141°", False),
        ("50%", "0.5", True),
        ("3/4", "0.75", True),
        ("3/4", r"\dfrac{3}{4}", True),
        ("2√{3}+1", "1+2√3", True),
        (r"\frac{√{3}}{2}", "√3/2", True),
        ("[0,1)", "[0, 1)", True),
        ("(0,1)", "[0,1]", False),
        ("x=3", "3", True),
        ("8", "x = 8", True),
        ("8", "8 apples", True),
        ("8", "7 or 8", False),
        ("8", "8.0000001", False),
        ("8", "eight", True),
    ],
)
def test_answers_as_people_write_them(gold: str, answer: str, same: bool) -> None:
    assert same_math(gold, answer) is same


@pytest.mark.slow
def test_real_geometry_golds_equal_themselves_and_not_one_more() -> None:
    path = DATA / "geoqa" / "geoqa_test_prompts.jsonl"
    if not path.exists():
        pytest.skip(f"real data is absent: {path}")
    rows = [json.loads(line)["ground_truth"] for line in path.read_text().splitlines()]
    assert len(rows) == 754
    assert all(same_math(gold, gold) for gold in rows)
    golds = sorted(set(rows))
    with ThreadPoolExecutor(4) as threads:
        assert all(
            threads.map(lambda gold: same_math(gold, f"$1\\cdot {gold.replace('√', chr(92) + 'sqrt')}$"), golds[:20])
        )
        assert not any(threads.map(lambda gold: same_math(gold, f"1+{gold}"), golds))


@pytest.mark.slow
def test_throughput_of_ordinary_answers() -> None:
    pool.warm_up()
    pairs = [
        (rf"$\frac{{{i + 1}}}{{7}}+\sqrt{{3}}$", rf"$\sqrt{{3}}+\frac{{{i + k}}}{{7}}$")
        for i in range(50)
        for k in range(8)
    ]
    before, start = slowness(), time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda pair: same_math(*pair), pairs))
    rate = len(pairs) / (time.monotonic() - start) * (before + slowness()) / 2
    assert sum(verdicts) == 50  # k = 1 alone is right
    assert rate > 25  # 350-450 a second on two idle cores; the bound leaves room for a busy machine


@pytest.mark.slow
def test_the_training_script_is_not_imported_by_workers(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "from pathlib import Path\n"
        "with open(Path(__file__).with_name('imports'), 'a') as file: file.write('x')\n"
        "from open_r1.rewards.sandbox import math_verify as pool\n"
        "pool.warm_up()\n"  # no `if __name__ == '__main__'`: a second import would start pools for ever
        "from open_r1.rewards.math import same_math\n"
        "print(same_math('$x+x$', '$2x$'))\n"
    )
    process = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert (process.stdout, process.stderr, process.returncode) == ("True\n", "", 0)
    assert (tmp_path / "imports").read_text() == "x"


def test_shutdown_and_start_again() -> None:
    workers.shutdown()
    assert same_math("$21$", "$42/2$") is True


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "inf"])
def test_a_deadline_that_is_none_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN_R1_GRADE_SECONDS", value)
    with pytest.raises(ValueError, match="OPEN_R1_GRADE_SECONDS: got"):
        pool.deadline()
