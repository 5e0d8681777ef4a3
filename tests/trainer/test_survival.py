"""Signals and errors leave a checkpoint from which a run resumes exactly; hangs and dead ranks end a run in time.

`tests/torture/endings.py` plants more faults, and measures; `kill_anywhere.py` beside it kills a run twenty times.
"""

import json
import os
import re
import signal

import pytest
import torch.distributed as dist
from helpers.faulty_commands import RECEIVERS, faulty, signalled
from helpers.repository import run_script
from helpers.resumed_runs import SMALL, WINDOWS, assert_same, train
from helpers.trainers import make_trainer
from PIL import Image
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from open_r1.trainer.checkpointing import select
from open_r1.trainer.checkpointing.resumable import save_checkpoint_now
from open_r1.trainer.checkpointing.select import Resume
from open_r1.trainer.lifecycle import preemption, shutdown, watchdog
from open_r1.trainer.lifecycle.torchrun_agent import first_failure

# ------------------------------------------------------------------------------------------------------ told to stop


def stopped(tiny, few, out, window, *flags, step, where="training_step", error=None):
    """A run that is told to stop, or fails, when `step` steps are done and it begins the next micro-batch but one."""
    trainer = make_trainer(tiny, few, out, *SMALL.split(), *WINDOWS[window].split(), *flags)
    method, calls = getattr(trainer, where), []

    def interrupted(*args, **kwargs):
        calls.extend([1] * (trainer.state.global_step == step))
        if len(calls) == 2:
            trainer.signals.received = signal.SIGTERM
            if error is not None:
                raise error
        return method(*args, **kwargs)

    setattr(trainer, where, interrupted)
    with pytest.raises(BaseException) as ended:
        shutdown.train(trainer, Resume(None, {}))
    return ended.value


@pytest.mark.parametrize("step", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_that_is_told_to_stop_ends_well_and_goes_on_exactly(tiny, few, tmp_path, capsys, step):
    ended = stopped(tiny, few, tmp_path, "across steps", step=step)
    assert isinstance(ended, SystemExit) and ended.code == 0
    saved = tmp_path / f"checkpoint-{step}"
    message = (
        f"SIGTERM: the run was asked to stop\nThe run ended after step {step}; continue it with --resume_from_check"
    )
    assert message in capsys.readouterr().err and not (tmp_path / "saving").exists()
    assert select.newest_checkpoint(tmp_path) == saved
    resumed = train(tiny, few, tmp_path, "across steps", checkpoint=saved)
    assert_same(resumed, train(tiny, few, tmp_path / "whole", "across steps"))


@pytest.mark.slow
def test_one_that_goes_on_elsewhere_names_what_it_went_on_from(tiny, few, tmp_path):
    train(tiny, few, tmp_path / "first", "across steps", "--save_strategy", "steps", "--save_steps", "2")
    saved = tmp_path / "first" / "checkpoint-2"
    trainer = make_trainer(tiny, few, tmp_path / "second", *SMALL.split(), *WINDOWS["across steps"].split())
    trainer.signals.received = signal.SIGTERM
    with pytest.raises(SystemExit):
        shutdown.train(trainer, Resume(saved, {}))
    assert save_checkpoint_now(trainer) == saved and not (tmp_path / "second" / "checkpoint-2").exists()


@pytest.mark.slow
def test_so_does_one_that_is_told_during_an_evaluation(tiny, few, tmp_path):
    ended = stopped(tiny, few, tmp_path, "longer than a step", step=4, where="prediction_step")
    assert isinstance(ended, SystemExit) and ended.code == 0
    resumed = train(tiny, few, tmp_path, "longer than a step", checkpoint=select.newest_checkpoint(tmp_path))
    assert_same(resumed, train(tiny, few, tmp_path / "whole", "longer than a step"))


@pytest.mark.slow
def test_an_error_leaves_a_checkpoint_too_and_says_so(tiny, few, tmp_path):
    ended = stopped(tiny, few, tmp_path, "across steps", step=2, error=KeyError("planted"))
    assert isinstance(ended, KeyError)
    saved = tmp_path / "checkpoint-2"
    (note,) = ended.__notes__
    sentence, command = note.split("\n")
    assert sentence == f"The run ended after step 2; continue it with --resume_from_checkpoint {saved}, or auto"
    assert command.startswith("  next  python ") and f"--resume_from_checkpoint {saved}" in command
    resumed = train(tiny, few, tmp_path, "across steps", checkpoint=saved)
    assert_same(resumed, train(tiny, few, tmp_path / "whole", "across steps"))


@pytest.mark.slow
def test_the_reason_stands_alone_where_the_next_rows_are_being_loaded(tmp_path):
    Image.new("RGB", (5000, 5000)).save(tmp_path / "0.png")
    Image.new("RGB", (28, 28)).save(tmp_path / "frame.png")
    for number in range(1, 32):
        os.link(tmp_path / "0.png", tmp_path / f"{number}.png")
    media = {"video": ["frame.png"] * 2, "problem": "<image><video>What?", "solution": "7"}
    rows = [media | {"id": str(n), "image": f"{n}.png"} for n in range(32)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "mine.py").write_text("def fails(completion, record):\n    raise KeyError('mine')\n")
    argv = f"--model_name_or_path assets/tiny-vlm-motion --data_file_paths {tmp_path}/rows.jsonl --beta 0 "
    argv += f"--reward_funcs {tmp_path}/mine.py:fails --num_generations 2 --per_device_train_batch_size 16 "
    argv += f"--max_completion_length 4 --max_pixels 6272 --output_dir {tmp_path}/out --image_folders {tmp_path}"
    ended = run_script("src/open_r1/grpo_jsonl.py", *argv.split(), check=False, alone=True)
    assert ended.returncode == 1
    assert "KeyError: 'mine'" in ended.stderr
    assert ended.stderr.count("Traceback") == 1
    assert "schedule new futures" not in ended.stderr


@pytest.mark.slow
def test_a_rollout_is_broken_off(tiny, few, tmp_path):
    """Minutes of it may be left when a cluster gives seconds."""
    long = ["--max_completion_length", "40", "--generation_kwargs", '{"min_new_tokens": 40}']
    trainer = make_trainer(tiny, few, tmp_path, *SMALL.split(), *WINDOWS["across steps"].split(), *long)
    stop_requested, calls = trainer.signals.stop_requested, []

    def send_signal():
        calls.append(1)
        if len(calls) == 43:  # in the second rollout
            trainer.signals.received = signal.SIGTERM
        return stop_requested()

    trainer.signals.stop_requested = send_signal
    with pytest.raises(SystemExit) as ended:
        shutdown.train(trainer, Resume(None, {}))
    assert ended.value.code == 0 and len(calls) == 44
    resumed = train(tiny, few, tmp_path, "across steps", *long, checkpoint=select.newest_checkpoint(tmp_path))
    assert_same(resumed, train(tiny, few, tmp_path / "whole", "across steps", *long))


def test_the_second_signal_ends_the_process_at_once_unless_it_is_the_first_one_again(monkeypatch, capfd):
    now, killed = [100.0], []
    monkeypatch.setattr(preemption.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(preemption.os, "kill", lambda process, number: killed.append(number))
    before, handler = signal.getsignal(signal.SIGINT), preemption.StopSignals()
    handler(signal.SIGTERM, None)
    handler(signal.SIGINT, None)  # within a second: a launcher passed it on
    assert killed == [] and handler.received == signal.SIGTERM
    now[0] += 2
    try:
        handler(signal.SIGINT, None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert killed == [signal.SIGINT] and "SIGINT: ended at once, without saving" in capfd.readouterr().err


# ----------------------------------------------------------------------------------------------------------- watchdog


def test_ranks_learn_of_each_others_trouble_and_silence():
    store = dist.HashStore()
    one, two = watchdog.Peers(store, 0, 2), watchdog.Peers(store, 1, 2)
    for _ in range(30):
        assert one.trouble("rollout", tick=5) is None and two.trouble("update", tick=5) is None
    reasons = [one.trouble("rollout", tick=5) for _ in range(10)]
    assert reasons[:9] == [None] * 9 and reasons[9] == "rank 1 has died: no sign of it for 45 s"
    two.trouble("save", tick=5)
    assert [one.trouble("rollout", tick=5) for _ in range(20)] == [None] * 20  # one call may take long there
    two.leave()
    assert [one.trouble("rollout", tick=5) for _ in range(20)] == [None] * 20
    two.request_stacks("rank 1: no progress")
    assert one.trouble("rollout", tick=5) == "rank 1: no progress"


def test_the_first_line_of_the_file_is_what_a_rank_does(tmp_path):
    watch = watchdog.Watchdog(str(tmp_path), timeout=60, rank=3)
    with watch.running():
        watch.enter("update", step=7)
        with watch.phase("rollout"):
            with watch.phase("reward"):
                inner = watch.path.read_text()
            outer = watch.path.read_text()
    assert re.fullmatch(rf"rank 3, process {os.getpid()}, step 7, phase reward since \S+ \S+ +\n", inner)
    assert "phase rollout" in outer and "phase end" in watch.path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "phase", "function"),
    [
        ("reward hangs", "reward", "in sleep\n"),
        ("reward holds the interpreter", "reward", "in sleep_with_the_interpreter\n"),
    ],
)
def test_a_hang_ends_the_run_with_its_phase_and_stacks(tiny, digits, tmp_path, fault, phase, function):
    seconds, status, stderr = faulty(fault, tmp_path, tiny, digits / "train.jsonl", "--hang_timeout", 12)
    stacks = (tmp_path / "watchdog" / "rank0.txt").read_text()
    assert f"step 3, phase {phase} since" in stacks and function in stacks
    assert seconds < 90 and select.newest_checkpoint(tmp_path).name == "checkpoint-2"
    if fault == "reward holds the interpreter":  # no thread can say so; the C timer has written the stacks
        assert status == 1
    else:
        assert status == watchdog.HUNG and f"in phase {phase} of step 3 (--hang_timeout)" in stderr


@pytest.mark.distributed
def test_a_rank_that_hangs_ends_all_with_the_stacks_of_each(tiny, digits, tmp_path):
    _, status, said = faulty("update hangs", tmp_path, tiny, digits / "train.jsonl", "--hang_timeout", 15, ranks=2)
    waiting, hanging = ((tmp_path / "watchdog" / f"rank{rank}.txt").read_text() for rank in (0, 1))
    assert (
        status == watchdog.HUNG and "in sleep\n" in hanging and "in check\n" in waiting
    )  # of the signals: a collective
    assert said.rstrip().endswith("or raise --hang_timeout if that phase may take longer")


@pytest.mark.distributed
def test_a_rank_that_dies_ends_the_others_in_time(tiny, digits, tmp_path):
    seconds, status, said = faulty("dies", tmp_path, tiny, digits / "train.jsonl", ranks=2)
    assert status == 1 and seconds < 120 and select.newest_checkpoint(tmp_path).name == "checkpoint-2"
    assert "\nrank 1 ended by SIGKILL, and the others with it:\n" in said
    assert said.endswith("what it said is above; --resume_from_checkpoint auto continues a run\n")


@pytest.mark.distributed
def test_what_one_rank_meets_ends_all_with_a_checkpoint(tiny, digits, tmp_path):
    message = "train.jsonl:7: image: got a file that was removed"
    _, status, stderr = faulty("data is refused", tmp_path, tiny, digits / "train.jsonl", ranks=2)
    saved = select.newest_checkpoint(tmp_path)
    assert status == 1 and message in stderr and saved.name == "checkpoint-3" and "Nothing was trained" not in stderr
    ending = f"The run ended after step 3; continue it with --resume_from_checkpoint {saved}, or auto\n"
    assert stderr.count(ending) == 2 and stderr.endswith(ending)  # when it happens, and last, after torchrun's report


# fault on one of two ranks under ZeRO-3 -> what is said, the newest checkpoint (one is saved at every second step)
ZERO3 = {
    "reward fails": ("planted", "checkpoint-3"),
    "data is refused": ("train.jsonl:7: image: got a file that was removed", "checkpoint-3"),
    "update fails": ("this rank failed by itself", "checkpoint-2"),
    "dies": ("SIGKILL", "checkpoint-2"),
    "stands still": ("--hang_timeout", "checkpoint-2"),
}


@pytest.mark.distributed
@pytest.mark.parametrize("fault", ZERO3)
def test_under_zero3_a_fault_of_one_rank_ends_all_in_time_with_a_whole_checkpoint(tiny, digits, tmp_path, fault):
    flags = ("--deepspeed", "local_scripts/zero3.json", "--hang_timeout", 20 if fault == "stands still" else 1800)
    seconds, status, stderr = faulty(fault, tmp_path, tiny, digits / "train.jsonl", *flags, ranks=2)
    said, name = ZERO3[fault]
    expected = watchdog.HUNG if fault == "stands still" else 1
    assert status == expected and said in stderr and seconds < 180, stderr[-3000:]
    saved = select.newest_checkpoint(tmp_path)
    assert saved.name == name and select.checkpoints_in(tmp_path)[0] == saved


@pytest.mark.slow
def test_a_kill_in_the_first_save_leaves_a_run_to_begin_anew(tiny, digits, tmp_path):
    flags = ("--save_steps", 4, "--resume_from_checkpoint", "auto", "--max_steps", 4)
    _, status, _ = faulty("dies in a save", tmp_path, tiny, digits / "train.jsonl", *flags)
    assert status == -signal.SIGKILL and select.checkpoints_in(tmp_path) == [] and (tmp_path / "saving").exists()
    _, status, stderr = faulty("dies", tmp_path, tiny, digits / "train.jsonl", *flags, "--max_steps", 3)
    assert status == 0, stderr[-3000:]
    assert not (tmp_path / "saving").exists() and (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("ranks", "flags"),
    [
        pytest.param(1, [], marks=pytest.mark.slow),
        pytest.param(2, ["--deepspeed", "local_scripts/zero2.json"], marks=pytest.mark.distributed),
    ],
)
def test_a_full_disk_leaves_the_last_good_checkpoint_and_says_so(tiny, digits, tmp_path, ranks, flags):
    _, status, stderr = faulty("disk is full", tmp_path, tiny, digits / "train.jsonl", *flags, ranks=ranks)
    assert status == 1 and "checkpoint-4 could not be written" in stderr, stderr[-3000:]
    assert select.newest_checkpoint(tmp_path).name == "checkpoint-2"
    if not flags:
        assert f"the last good checkpoint is {tmp_path}/checkpoint-2" in stderr and not (tmp_path / "saving").exists()


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param([], marks=pytest.mark.slow),
        pytest.param(["--deepspeed", "local_scripts/zero2.json"], marks=pytest.mark.distributed),
    ],
)
def test_weights_of_half_a_step_are_not_saved(tiny, digits, tmp_path, flags):
    """As where memory runs out within a step: some weights are the next step's, the others not yet."""
    _, status, stderr = faulty("step breaks off", tmp_path, tiny, digits / "train.jsonl", *flags)
    assert status == 1 and select.newest_checkpoint(tmp_path).name == "checkpoint-2"
    assert (
        "The run ended after step 3; it had begun to change the weights for the next one, so they are not saved; the "
        f"last good checkpoint is {tmp_path}/checkpoint-2: --resume_from_checkpoint auto"
    ) in stderr, stderr[-3000:]


# --------------------------------------------------------------------------------------------------- signals to ranks


@pytest.mark.distributed
@pytest.mark.parametrize("receiver", RECEIVERS)
def test_two_ranks_stop_together(tiny, digits, tmp_path, receiver):
    out = tmp_path / "run"
    _, status, log = signalled(receiver, signal.SIGTERM, out, tiny, digits / "train.jsonl")
    saved = select.newest_checkpoint(out)
    assert status == 0, log[-3000:]
    assert f"continue it with --resume_from_checkpoint {saved}, or auto" in log
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert saved.name == f"checkpoint-{lines[-1]['step']}"


def failure(exitcode: int, timestamp: int) -> ProcessFailure:
    failed = ProcessFailure(local_rank=0, pid=1, exitcode=exitcode, error_file="")
    failed.timestamp = timestamp
    return failed


@pytest.mark.parametrize(
    ("failures", "rank"),
    [
        ({0: failure(1, 100), 1: failure(-9, 101)}, 1),  # rank 0 wrote "connection closed" before the launcher looked
        ({0: failure(1, 100), 1: failure(-15, 100)}, 0),  # the launcher ended rank 1
        ({0: failure(1, 100), 1: failure(-9, 131)}, 0),  # that did not listen to SIGTERM
        ({0: failure(4, 101), 1: failure(1, 100)}, 1),
    ],
)
def test_the_rank_that_died_is_named_before_those_that_waited_for_it(failures, rank):
    assert first_failure(failures)[0] == rank
