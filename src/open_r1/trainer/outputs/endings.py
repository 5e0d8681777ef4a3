"""Says on rank 0 where a run begins when it is resumed, and at its end where its results are and what comes next."""

import sys
from pathlib import Path

from transformers import TrainingArguments

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.redaction import command_line
from open_r1.report.diagnoses import findings
from open_r1.report.history import read_metrics
from open_r1.report.next_steps import TOOL_FLAGS, end_of_training
from open_r1.report.verdict import verdict
from open_r1.trainer.checkpointing.required_files import read_object
from open_r1.trainer.checkpointing.select import Resume
from open_r1.trainer.protocols import RunTrainer

RESUME = "--resume_from_checkpoint"


def say_beginning(trainer: RunTrainer, resume: Resume) -> None:
    """Name the checkpoint that a run goes on from, with its step; or say that there was none to go on from."""
    args = trainer.args
    if not trainer.accelerator.is_main_process or not args.resume_from_checkpoint:
        return
    if resume.checkpoint:
        step = read_object(resume.checkpoint / "trainer_state.json").get("global_step")
        write_below_bar(f"Resuming from {resume.checkpoint}, after step {step}")
    elif str(args.resume_from_checkpoint).lower() == "auto":
        write_below_bar(f"{RESUME} auto: {args.output_dir} has no checkpoint-N yet, so this is a new run")


def say_end(trainer: RunTrainer, task: TaskArguments, training: TrainingArguments, model_args: VLMConfig) -> None:
    """Name the steps, the findings, the model, the report, and the command that evaluates the model."""
    if not trainer.accelerator.is_main_process:
        return
    folder, state = Path(training.output_dir), trainer.state
    flags = vars(task) | {"use_peft": model_args.use_peft, "trust_remote_code": training.trust_remote_code}
    flags |= {name: value for name, value in vars(training).items() if name in TOOL_FLAGS}
    steps = f"Trained {state.global_step} of {state.max_steps} steps"
    write_below_bar(end_of_training(folder, steps, health_of(folder), flags))


def health_of(folder: Path) -> list[str]:
    """Sentences about the metrics of a run's folder, the names of its findings first; [] without metrics."""
    if not (folder / "metrics.jsonl").is_file():
        return []
    lines = read_metrics(folder)
    found = findings(lines)
    names = [f"Findings, which the report explains: {', '.join(finding.name for finding in found)}."] if found else []
    return names + verdict(lines, found)


def again(trainer: RunTrainer, checkpoint: Path) -> str:
    """A line with the command that goes on from a checkpoint, to be pasted; empty for several ranks, which a launcher
    started by a command of its own."""
    if trainer.accelerator.num_processes > 1:
        return ""
    return f"\n  next  {resuming_command(sys.argv, checkpoint)}"


def resuming_command(argv: list[str], checkpoint: Path) -> str:
    """The command of this process with another checkpoint to go on from.

    >>> resuming_command(["grpo.py", "--resume_from_checkpoint", "auto", "--seed", "1"], Path("out/checkpoint-2"))
    'python grpo.py --seed 1 --resume_from_checkpoint out/checkpoint-2'
    """
    words: list[str] = []
    skip = False
    for word in argv:
        if not skip and word.partition("=")[0] != RESUME:
            words.append(word)
        skip = word == RESUME
    return command_line(["python", *words, RESUME, str(checkpoint)])


def write_below_bar(text: str) -> None:
    """Write to stderr, below the line of a progress bar."""
    sys.stderr.write(f"\n{text}\n")
    sys.stderr.flush()
