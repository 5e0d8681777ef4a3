"""Users' rewards cannot hang or kill a run: each fault in a worker process, in both signatures, and what is said."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.faulty_rewards import FILE, records
from helpers.processes import all_end, children_of, is_alive

from open_r1.errors import UsageError
from open_r1.rewards.sandbox import worker_pool as workers
from open_r1.rewards.trl_adapter import BatchReward, Bounds, RewardError, lost_gradings

PATIENT = Bounds(seconds=60, memory_gb=0.1)
QUICK = Bounds(seconds=3, memory_gb=0.1)  # for what hangs, beside rows that need milliseconds
PROGRAMS = """
import ctypes, os, subprocess, time
from pathlib import Path

def starting(act):
    def one(completion, record):
        Path(completion).write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
        return act()
    return one

sleeps, segfaults, exits, returns = map(
    starting, (lambda: time.sleep(3600), lambda: ctypes.string_at(0), lambda: os._exit(0), lambda: 1.0)
)
"""
LINE = FILE.splitlines().index('    raise KeyError("the wanted key")  # HERE') + 1


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rewards") / "mine.py"
    path.write_text(FILE)
    return path


def grade(path: Path, name: str, completions: Sequence[str], bounds: Bounds = PATIENT, **kwargs: object) -> list:
    rows = records(len(completions))
    return BatchReward(f"{path}:{name}", bounds)([""] * len(rows), completions, record=rows, **kwargs)


def lost_count(how: str) -> int:
    return workers.grading_counts()[how]


@pytest.mark.parametrize(
    ("name", "how", "minimum"),
    [
        ("sleeps", "timeouts", -2.0),
        pytest.param("holds", "timeouts", 0.0, marks=pytest.mark.slow),
        ("eats", "crashes", 0.0),
        ("segfaults", "crashes", 0.0),
        ("exits", "crashes", 0.0),
    ],
)
def test_a_row_that_keeps_or_kills_its_worker_scores_the_minimum_and_the_others_their_own(mine, name, how, minimum):
    before = lost_count(how)
    begun = time.monotonic()
    bounds = QUICK if how == "timeouts" else PATIENT
    assert grade(mine, name, ["ab", "bad", "abcd", "a"], bounds) == [2.0, minimum, 4.0, 1.0]
    assert lost_count(how) == before + 1
    assert time.monotonic() - begun < 60  # about 7 s; the rest is for a busy machine


@pytest.mark.parametrize(
    ("name", "how", "minimum"),
    [
        ("batch_sleeps", "timeouts", -3.0),
        pytest.param("batch_holds", "timeouts", 0.0, marks=pytest.mark.slow),
        pytest.param("batch_eats", "crashes", 0.0, marks=pytest.mark.slow),
        pytest.param("batch_segfaults", "crashes", 0.0, marks=pytest.mark.slow),
        ("batch_exits", "crashes", 0.0),
    ],
)
def test_a_batch_is_one_call_and_lost_as_a_whole(mine, name, how, minimum):
    before = lost_count(how)
    assert grade(mine, name, ["ab", "bad"], QUICK if how == "timeouts" else PATIENT) == [minimum] * 2
    assert lost_count(how) == before + 2
    assert grade(mine, name, ["ab", "abc"]) == [2.0, 3.0]


ERRORS = [
    ("raises", "KeyError: 'the wanted key'"),
    ("quits", "SystemExit: enough"),
    ("nan", "returned nan, expected a number from -1e+06 to 1e+06, or None"),
    ("infinite", "returned -inf, expected"),
    ("text", "returned '1', expected"),
    ("unsendable", "returned <function"),
]


@pytest.mark.parametrize("in_process", [False, True])
@pytest.mark.parametrize(("name", "said"), ERRORS)
def test_an_error_stops_the_run_with_the_rows_place(mine, name, said, in_process):
    with pytest.raises(RewardError) as error:
        grade(mine, name, ["ab", "bad"], Bounds(in_process=in_process))
    assert str(error.value).startswith(f"a.jsonl:2: reward {mine}:{name}: {said}")
    with pytest.raises(RewardError, match=r"a\.jsonl:(2|1 and 1 more): reward .*: " + said[:10]):
        grade(mine, f"batch_{name}", ["ab", "bad"], Bounds(in_process=in_process))


@pytest.mark.parametrize("name", ["raises", "batch_raises"])
@pytest.mark.parametrize("in_process", [False, True])
def test_the_traceback_shows_the_users_line_and_none_of_ours(mine, name, in_process):
    with pytest.raises(RewardError) as error:
        grade(mine, name, ["ab", "bad"], Bounds(in_process=in_process))
    assert f'mine.py", line {LINE}, in raise_it' in str(error.value)
    assert "open_r1" not in str(error.value).partition("Traceback")[2]


def test_errors_that_are_skipped_score_none_and_are_counted_with_one_warning(mine, caplog):
    before = lost_count("errors")
    skip = Bounds(errors="skip")
    assert grade(mine, "raises", ["ab", "bad", "bad"], skip) == [2.0, None, None]
    assert grade(mine, "raises", ["bad", "abc"], skip) == [None, 3.0]
    assert grade(mine, "batch_raises", ["bad", "abc"], skip) == [None, None]
    assert grade(mine, "batch_nan", ["bad", "abc"], skip) == [None, 3.0]
    assert lost_count("errors") == before + 6 == lost_gradings()["grading/errors"]
    warnings = [record.getMessage() for record in caplog.records if ":raises" in record.getMessage()]
    assert len(warnings) == 1
    assert f'mine.py", line {LINE}, in raise_it' in warnings[0] and "a.jsonl:2: " in warnings[0]


@pytest.mark.slow
def test_rows_that_take_long_together_but_not_alone_are_all_graded(mine):
    before = workers.grading_counts()
    assert grade(mine, "slow", ["x"] * (4 * workers.WORKERS), Bounds(seconds=20)) == [1.0] * (4 * workers.WORKERS)
    assert workers.grading_counts() == before


def test_what_asks_for_the_trainer_runs_there_and_what_does_not_in_a_worker(mine):
    assert grade(mine, "inside", ["a"]) == [1.0]
    assert grade(mine, "inside", ["a"], Bounds(in_process=True)) == [0.0]
    assert grade(mine, "with_state", ["a"], trainer_state=5) == [5.0]
    assert grade(mine, "batch_inside", ["a"], trainer_state=lambda: 0) == [0.0]  # a worker cannot have it
    assert grade(mine, "batch_inside", ["a"], Bounds(in_process=True), trainer_state=5) == [1.0]


def test_pictures_reach_a_worker(mine):
    from PIL import Image

    pictures = [[Image.new("RGB", (4, 4), (value, 0, 0))] for value in (7, 9)]
    assert grade(mine, "seeing", ["a", "b"], images=pictures) == [7.0, 9.0]


def test_a_file_that_no_worker_can_load_is_said_before_training(tmp_path):
    path = tmp_path / "only_here.py"
    path.write_text(
        "import multiprocessing\n"
        "if multiprocessing.parent_process() is not None: raise ImportError('not in a child')\n"
        "def f(completion, record): return 1.0\n"
    )
    with pytest.raises(UsageError) as error:
        BatchReward(f"{path}:f", PATIENT).start()
    for part in (
        "only_here.py:f: no worker process can load it",
        'only_here.py", line 2',
        "--rewards_in_process true",
    ):
        assert part in str(error.value)
    here = Bounds(in_process=True)
    BatchReward(f"{path}:f", here).start()
    assert grade(path, "f", ["a"], here) == [1.0]


def test_an_argument_that_cannot_be_sent_is_said(mine):
    with pytest.raises(RewardError, match=r"(?s)arguments cannot be sent to a process: .*--rewards_in_process true"):
        grade(mine, "batch_inside", ["a"], thing=[lambda: 0])


def test_a_minimum_that_is_no_number_is_refused(tmp_path):
    path = tmp_path / "low.py"
    path.write_text("def f(completion, record): return 1.0\nf.minimum = 'low'\n")
    with pytest.raises(ValueError, match="minimum: got 'low', expected a finite number from -1e\\+06 to 1e\\+06"):
        BatchReward(f"{path}:f").start()


def script(body: str) -> str:
    return f"""
import sys
from open_r1.rewards.trl_adapter import BatchReward, Bounds
from open_r1.data.record import Record
rows = [Record(str(i), (), "", (), "3", {{}}, f"a:{{i}}") for i in range(4)]
{body}
"""


@pytest.mark.slow
def test_prints_are_seen_also_of_a_worker_that_dies(tmp_path):
    path = tmp_path / "loud.py"
    path.write_text("import os\ndef f(completion, record):\n  print('read', completion)\n  os._exit(1)\n")
    code = script(f"print(BatchReward('{path}:f')([''], ['xyz'], record=rows[:1]))")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert process.stdout.splitlines()[0] == "read xyz" and process.stdout.endswith("[0.0]\n"), process


@pytest.mark.slow
def test_a_cluster_that_signals_all_processes_costs_no_grading(mine):
    before = workers.grading_counts()
    grade(mine, "slow", ["a"])
    with ThreadPoolExecutor(1) as thread:
        graded = thread.submit(grade, mine, "slow", ["a"] * 8)
        for _ in range(5):
            time.sleep(0.2)
            for server in children_of(os.getpid()):
                for process in [*children_of(server), server]:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGTERM)
        assert graded.result() == [1.0] * 8
    assert workers.grading_counts() == before


@pytest.mark.parametrize("name", ["sleeps", "segfaults", "exits", "returns"])
def test_a_program_that_a_reward_started_ends_with_its_worker(tmp_path, name):
    path, program = tmp_path / "programs.py", tmp_path / "pid"
    path.write_text(PROGRAMS)
    bounds = QUICK if name == "sleeps" else PATIENT
    assert grade(path, name, [str(program)], bounds) == [float(name == "returns")]
    started = int(program.read_text())
    if name == "returns":
        assert is_alive(started)  # as long as its worker does
        workers.shutdown()
    assert all_end(started)


@pytest.mark.slow
@pytest.mark.parametrize("act", ["time.sleep(3600)", "re.match(r'(a+)+$', 'a' * 64 + 'b')"])
def test_no_worker_outlives_a_run_that_was_killed(tmp_path, act):
    path, started = tmp_path / "stays.py", tmp_path / "pids"
    path.write_text(
        "import os, re, subprocess, time\n"
        "def f(completion, record):\n"
        "  program = subprocess.Popen(['sleep', '1000'])\n"
        f"  open('{started}.part', 'w').write(f'{{os.getpid()}} {{program.pid}}')\n"
        f"  os.rename('{started}.part', '{started}')\n"
        f"  {act}\n"
    )
    code = script(f"BatchReward('{path}:f', Bounds(seconds=2))([''], ['x'], record=rows[:1])")
    run = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 240
    while not started.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    run.kill()
    run.wait()
    worker, program = map(int, started.read_text().split())
    assert all_end(worker, seconds=2 * (2 + 1) + 5 + 60), "the worker is still there"
    assert all_end(program), "the program that it started is still there"


@pytest.mark.slow
def test_the_memory_that_a_file_takes_to_load_does_not_count(tmp_path):
    path = tmp_path / "heavy.py"
    path.write_text("import torch\ndef f(completion, record): return torch.ones(1000).sum() / len(completion)\n")
    bounds = Bounds(seconds=20, memory_gb=0.5)
    BatchReward(f"{path}:f", bounds).start()
    assert grade(path, "f", ["a", "bb"], bounds) == [1000.0, 500.0]
