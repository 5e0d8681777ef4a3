"""A run that lasts: what it keeps does not follow its steps, a full disk costs no run, cut lines are healed."""

import json
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.rollouts import store
from PIL import Image

from open_r1.data.jsonl_io import append, atomic_write, keep_lines, read_lines
from open_r1.errors import UsageError
from open_r1.report.diagnoses import findings
from open_r1.report.history import ENDS, MOST, History, read_metrics
from open_r1.trainer.checks.health import Health
from open_r1.trainer.outputs import callbacks, tolerant_writer
from open_r1.trainer.outputs.callbacks import HISTORY, Curves, trim_log_history
from open_r1.trainer.outputs.tolerant_writer import MetricsFile, TolerantWriter


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A disk that becomes full: what a file already has room for is written, then `write` fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def state_at(step: int, **more: object) -> SimpleNamespace:
    return SimpleNamespace(global_step=step, max_steps=10**6, is_world_process_zero=True, log_history=[], **more)


def logs(step: int) -> dict[str, float]:
    return {
        "reward": 1 + step % 7 / 10,
        "loss": 0.1,
        "grad_norm": 1.0 + step % 3,
        "parse_rate": 0.9,
        "epoch": step / 9,
    }


# -------------------------------------------------------------------------------------------------------------- memory


def test_a_history_of_any_length_is_bounded_and_tells_the_same():
    history, steps = History(), 30_000
    for step in range(1, steps + 1):
        more = {"eval_reward": 1.0} if step % 5_000 == 0 else {"not_finite": ["loss"]} if step == 17_001 else {}
        history.add({"step": step, **logs(step), "kl": 0.02 if step <= steps - 20 else 0.5, **more})
    steps_left = [line["step"] for line in history.lines()]
    assert MOST / 2 <= len(steps_left) <= MOST and steps_left == sorted(steps_left)
    assert steps_left[:ENDS] == list(range(1, ENDS + 1))
    assert steps_left[-ENDS:] == list(range(steps - ENDS + 1, steps + 1))
    assert {17_001, *range(5_000, steps + 1, 5_000)} <= set(steps_left)
    even = [step for step in steps_left[ENDS:-ENDS] if step % 16 == 0]
    assert even == list(range(112, even[-1] + 1, 16))  # 30,000 / 16 < 5,000 / 2 < 30,000 / 8
    assert [finding.name for finding in findings(history.lines())] == ["not_finite", "kl_exploding"]


def test_a_short_history_is_whole_and_a_step_logged_again_wins():
    history = History()
    for step in (1, 2, 2, 3):
        history.add({"step": step, "reward": len(history.by_step)})
    history.add({"step": 3, "train_runtime": 9.0})
    assert history.lines() == [
        {"step": 1, "reward": 0},
        {"step": 2, "reward": 2},
        {"step": 3, "reward": 2, "train_runtime": 9.0},
    ]


def test_transformers_keeps_the_newest_logs_and_the_last_evaluation():
    state = state_at(0)
    for step in range(1, 3 * HISTORY):
        state.log_history.append({"step": step, "loss": 0.1})
        if step in (100, 200):
            state.log_history.append({"step": step, "eval_reward": step / 1000})
        trim_log_history(state)
    assert [entry["step"] for entry in state.log_history] == [200, *range(2 * HISTORY, 3 * HISTORY)]
    assert state.log_history[0]["eval_reward"] == 0.2


@pytest.mark.slow
def test_what_watches_a_run_takes_no_memory_for_each_step(tmp_path):
    """Once `MOST` steps are kept, from there to 12,000."""
    watching, state, used = [Curves(str(tmp_path)), Health(str(tmp_path), None)], state_at(0), {}
    tracemalloc.start()
    for step in range(1, 12_001):
        state.global_step = step
        state.log_history.append({**logs(step), "step": step})
        for callback in watching:
            callback.on_log(None, state, None, logs(step))
        if step % 1000 == 0:
            used[step] = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert max(used.values()) <= 1.02 * used[MOST], used


# ----------------------------------------------------------------------------------------------------------- full disk


def test_lines_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.jsonl"
    append(path, '{"step": 1}\n')
    with files_no_larger_than(20), pytest.raises(OSError):
        append(path, '{"step": 2}\n')  # 12 bytes more than 12: eight would fit
    assert path.read_text() == '{"step": 1}\n'
    append(path, '{"step": 3}\n')
    assert [line["step"] for line in read_lines(path)] == [1, 3]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with files_no_larger_than(5), pytest.raises(OSError), atomic_write(path) as file:
        file.write(b"new and long")
    fill(tmp_path / "b.jsonl", 3)
    with files_no_larger_than(5), pytest.raises(OSError):
        keep_lines(tmp_path / "b.jsonl", lambda _: True)
    assert (path.read_text(), len(read_lines(tmp_path / "b.jsonl"))) == ("old", 3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.jsonl", "page.html"]


def fill(path: Path, steps: int) -> Path:
    path.write_text("".join(f'{{"step": {step}}}\n' for step in range(1, steps + 1)))
    return path


def test_metrics_wait_for_room_and_are_said_to_once(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, TolerantWriter())
    metrics.add({"step": 1})
    with files_no_larger_than(20):
        for step in (2, 3, 4):
            metrics.add({"step": step})
    (warning,) = caplog.messages
    assert str(path) in warning and "the run goes on" in warning and "Free space" in warning
    metrics.add({"step": 5})
    assert [line["step"] for line in read_lines(path)] == [1, 2, 3, 4, 5]
    assert "can be written again" in caplog.messages[-1] and len(caplog.messages) == 2
    metrics.close()
    assert len(caplog.messages) == 2


def test_metrics_that_never_found_room_are_counted_at_the_end(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(tolerant_writer, "MAX_PENDING", 3)
    metrics = MetricsFile(tmp_path / "metrics.jsonl", TolerantWriter())
    with files_no_larger_than(5):
        for step in range(5):
            metrics.add({"step": step})
    metrics.close()
    assert caplog.messages[-1].endswith("could not be written: 5 lines are lacking")


@pytest.mark.slow
def test_a_full_disk_costs_curves_and_report_and_not_the_run(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_DRAWINGS", 0)
    curves, state = Curves(str(tmp_path)), state_at(0)
    for step in range(1, 4):
        state.global_step = step
        curves.on_log(None, state, None, logs(step))
    curves.on_train_end(None, state, None)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with files_no_larger_than(len(before["metrics.jsonl"]) + 10):
        state.global_step = 4
        curves.on_log(None, state, None, logs(4))
        curves.on_train_end(None, state, None)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    failed = [message.split(": cannot be written")[0] for message in caplog.messages if "cannot be" in message]
    assert failed == [str(tmp_path / name) for name in ("metrics.jsonl", "reward_curve.png", "report.html")]
    curves.on_train_end(None, state, None)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    state.global_step = 5
    curves.on_log(None, state, None, logs(5))
    curves.on_train_end(None, state, None)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]
    assert (tmp_path / "reward_curve.png").read_bytes() != before["reward_curve.png"]


def test_rollouts_that_find_no_room_are_left_out_and_nothing_is_cut(tmp_path, caplog):
    store(tmp_path, 100, range(2))
    with files_no_larger_than(200):  # as large as no line is
        store(tmp_path, 100, range(2, 4))
    store(tmp_path, 100, range(4, 5))
    assert [group["step"] for group in read_lines(tmp_path / "rollouts.jsonl")] == [0, 1, 4]
    assert (tmp_path / "rollouts.jsonl").read_text().count("\n") == 3
    (warning,) = (message for message in caplog.messages if "cannot be written" in message)
    assert "rollouts.jsonl" in warning and "left out" in warning
    for path in (tmp_path / "rollout_images").iterdir():
        with Image.open(path) as picture:
            picture.load()


def test_a_resume_without_room_for_its_copy_is_refused_and_leaves_the_file(tmp_path):
    fill(tmp_path / "metrics.jsonl", 50)
    with files_no_larger_than(30), pytest.raises(UsageError, match="free space there, then resume again"):
        Curves(str(tmp_path)).on_train_begin(None, state_at(40), None)
    assert len(read_metrics(tmp_path)) == 50


# ----------------------------------------------------------------------------------------------------------- cut lines


@pytest.mark.parametrize("cut", ['{"step": 4, "rew', '{"step": 4}', "{", "\0\0\0\0", '{"step": 4, "text": "\udcff'])
def test_a_line_that_a_kill_cut_is_healed_by_a_resumed_run(tmp_path, cut):
    path = fill(tmp_path / "metrics.jsonl", 3)
    with open(path, "a", errors="surrogateescape") as file:
        file.write(cut)
    curves = Curves(str(tmp_path))
    curves.on_train_begin(None, state_at(3), None)
    assert path.read_text() == fill(tmp_path / "b.jsonl", 3).read_text()
    curves.on_log(None, state_at(4), None, {"reward": 1.0})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_a_run_that_starts_anew_does_not_join_its_first_line_to_a_cut_one(tmp_path):
    path = fill(tmp_path / "metrics.jsonl", 3)
    path.write_text(path.read_text() + '{"step": 4, "rew')
    Curves(str(tmp_path)).on_log(None, state_at(1), None, {"reward": 0.5})
    assert {line["step"]: line.get("reward") for line in read_lines(path)} == {1: 0.5, 2: None, 3: None}


def test_readers_cope_with_a_line_that_is_being_written(tmp_path):
    store(tmp_path, 100, range(3))
    fill(tmp_path / "metrics.jsonl", 3)
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        whole = (tmp_path / name).read_bytes()
        last = whole.rstrip(b"\n").rfind(b"\n") + 1
        for end in range(last, len(whole), max(1, (len(whole) - last) // 8)):
            (tmp_path / name).write_bytes(whole[:end])
            page = callbacks.write_report([tmp_path], tmp_path / "report.html").read_text()
            data = json.loads(page.split('id="data">')[1].split("</script>")[0])
            groups = [group["step"] for group in data["groups"]]
            assert (data["runs"][0]["columns"]["step"][:2], groups[:2]) == ([1, 2], [1, 2])
        (tmp_path / name).write_bytes(whole)


# ---------------------------------------------------------------------------------------------------------- a real run


@pytest.mark.slow
def test_a_short_run_keeps_its_files_and_threads_and_leaves_everything(tmp_path, monkeypatch):
    """What `tests/torture/soak.py` asks of 2,000 steps, but for memory: 60 steps say nothing of it."""
    from complete import problems
    from watching import between, least, make_digits, quickstart, watch

    make_digits(tmp_path / "data", 64)
    small = ("--per_device_train_batch_size", 16, "--save_strategy", "steps", "--save_steps", 20)
    run = tmp_path / "run"
    status, samples = watch(quickstart(tmp_path / "data", run, 60, *small), run, every=0.2)
    assert status == 0, run.with_name("run.log").read_text()[-2000:]
    assert problems(run, 60) == []
    early, late = between(samples, 10, 30), between(samples, 40, 59)
    assert [least(early, name) for name in ("files", "threads")] == [
        least(late, name) for name in ("files", "threads")
    ]
