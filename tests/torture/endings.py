"""Trial: what ends a run, planted one after another, and how long the run takes to end.

    python tests/torture/endings.py OUT

Hangs in data, reward and update, alone and on one of two ranks; a rank that is killed, and one whose whole machine is;
a rank that fails; a disk that is full; signals. Seconds are from the last step that was logged to the end of all.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tests"))

from helpers.faulty_commands import RECEIVERS, faulty, process_of, signalled, until  # noqa: E402
from helpers.repository import free_port, make_dataset  # noqa: E402
from rows import Row, write  # noqa: E402

from open_r1.trainer.checkpointing.select import checkpoint_defects, checkpoints_in  # noqa: E402

TINY = str(REPO / "assets" / "tiny-vlm")
HERE, PYTEST = "tests/torture/endings.py", "tests/trainer/test_survival.py::test_"
HANG = "ends with status {status}, {seconds:.0f} s after its last step (--hang_timeout 6); stacks name the phase"
END = "all ended {seconds:.0f} s after the last step; whole checkpoints: {checkpoints}"
SAVED = "status {status}; whole checkpoints: {checkpoints}"
ONE_RANK = "the other ends too; the newest checkpoint goes on exactly"
TOGETHER = "all ranks end with a checkpoint of the last finished step and the row's place"
# fault, its name in faulty_run.py, ranks, flags, what happens, the test, the figure
CASES = [
    ("the data loader hangs", "data hangs", 1, 6, "stacks to watchdog/rank0.txt, status 4", HERE, HANG),
    ("a reward hangs", "reward hangs", 1, 6, "stacks to watchdog/rank0.txt, status 4", f"{PYTEST}a_hang_ends*", HANG),
    (
        "a call hangs and holds the interpreter",
        "reward holds the interpreter",
        1,
        6,
        "a C timer writes the stacks and ends the run",
        f"{PYTEST}a_hang_ends*",
        HANG,
    ),
    (
        "one of two ranks hangs",
        "update hangs",
        2,
        6,
        "stacks of both ranks, both end",
        f"{PYTEST}a_rank_that_hangs*",
        HANG,
    ),
    ("one of two ranks is killed", "dies", 2, 1800, ONE_RANK, f"{PYTEST}a_rank_that_dies*", END),
    ("one of two ranks raises by itself", "update fails", 2, 1800, ONE_RANK, HERE, END),
    ("one of two ranks meets a bad row", "data is refused", 2, 1800, TOGETHER, f"{PYTEST}what_one_rank_meets*", SAVED),
    (
        "memory runs out within an optimizer step",
        "step breaks off",
        1,
        1800,
        "status 1; weights of half a step are not saved",
        f"{PYTEST}weights_of_half_a_step*",
        SAVED,
    ),
    (
        "the disk is full in a save",
        "disk is full",
        1,
        1800,
        "status 1, which checkpoint is the last good one, nothing half",
        f"{PYTEST}a_full_disk*",
        SAVED,
    ),
]


def whole(out: Path) -> str:
    """Names of the checkpoints without defects. Ends the trial where one has any."""
    found = {path.name: checkpoint_defects(path, False, (0, 1)) for path in checkpoints_in(out)}
    if wrong := {name: problems for name, problems in found.items() if problems}:
        sys.exit(f"{out}: {wrong}")
    return ", ".join(sorted(found)) or "none"


def planted(folder: Path, data: Path) -> list[Row]:
    rows = []
    for fault, name, ranks, timeout, happens, test, figure in CASES:
        print(f"planting: {fault}", file=sys.stderr)
        out = folder / name.replace(" ", "_")
        seconds, status, said = faulty(name, out, TINY, data, "--hang_timeout", timeout, ranks=ranks)
        if status == 0 or seconds > 60:
            sys.exit(f"{fault}: status {status} after {seconds:.0f} s\n{said[-3000:]}")
        shown = figure.format(seconds=seconds, status=status, checkpoints=whole(out))
        rows.append(Row(fault, happens, test, shown))
    return rows


def launch(out: Path, data: Path, **environment: str) -> subprocess.Popen[bytes]:
    argv = f"--model_name_or_path {TINY} --task_type digits --data_file_paths {data} --image_folders {data.parent} "
    argv += f"--output_dir {out} --num_generations 4 --per_device_train_batch_size 4 --max_completion_length 4 "
    argv += "--num_train_epochs 1000 --save_strategy steps --save_steps 5 --disable_tqdm true --bf16 false"
    env = {**os.environ, "VENV": sys.prefix, "OMP_NUM_THREADS": "1", **environment}
    command = ["bash", "run_scripts/launch.sh", "src/open_r1/grpo_jsonl.py", *argv.split()]
    with open(out.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, cwd=REPO, env=env, stdout=log, stderr=log, start_new_session=True)


def asked_to_stop(folder: Path, data: Path) -> list[Row]:
    """SIGTERM to one rank of two, which is in a long rollout; SIGINT to the launcher; SIGTERM in an evaluation."""
    rows = []
    for number, whom in zip((signal.SIGTERM, signal.SIGINT, signal.SIGTERM), RECEIVERS, strict=True):
        print(f"{number.name} to {whom}", file=sys.stderr)
        out = folder / f"{number.name} to {whom}".replace(" ", "_")
        seconds, status, said = signalled(whom, number, out, TINY, data)
        if status:
            sys.exit(f"{number.name} to {whom}: status {status}\n{said[-3000:]}")
        figure = f"status 0 after {seconds:.1f} s; whole checkpoints: {whole(out)}"
        happens = "both ranks save the same step and end with status 0; a second signal ends them at once"
        rows.append(Row(f"{number.name} to {whom}", happens, f"{PYTEST}two_ranks_stop_together", figure))
    return rows


def machine_dies(folder: Path, data: Path) -> Row:
    """Two launchers on this machine stand for two machines; one is killed with all that it has started."""
    print("a machine dies", file=sys.stderr)
    out = folder / "machine"
    common = {"NNODES": "2", "NPROC": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    nodes = [launch(out, data, NODE_RANK=str(number), **common) for number in (0, 1)]
    try:
        until((out / "checkpoint-5").exists, nodes[0])
        for process in (nodes[1].pid, process_of(out, 1)):  # the launcher first, as it would end its rank well
            os.kill(process, signal.SIGKILL)
        begun = time.monotonic()
        nodes[0].wait(timeout=100)
        seconds = time.monotonic() - begun
    finally:
        for node in nodes:
            if node.poll() is None:
                node.kill()
    if seconds > 60 or nodes[0].returncode == 0:
        sys.exit(f"a machine dies: status {nodes[0].returncode} after {seconds:.0f} s")
    happens = "the other machine's ranks end too: by the broken connection, or for want of a sign of life in 45 s"
    figure = f"the other ended {seconds:.0f} s later; whole checkpoints: {whole(out)}"
    return Row("one of two machines dies", happens, HERE, figure)


def main() -> None:
    out = Path(sys.argv[1])
    folder = (out / "endings").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    make_dataset("digits", folder / "data", "--rows", 64, "--heldout_rows", 4)
    data = folder / "data" / "train.jsonl"
    write(out, "endings", [*planted(folder, data), *asked_to_stop(folder, data), machine_dies(folder, data)])


if __name__ == "__main__":
    main()
