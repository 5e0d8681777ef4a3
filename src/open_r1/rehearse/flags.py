"""The command line of a rehearsal: its own flags, and those of a run, parsed as on a machine with a GPU."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers.training_args import OptimizerNames

from open_r1.config import hardware
from open_r1.config.idle_flags import REFUSED_GRPO_FLAGS
from open_r1.config.model_arguments import VLMConfig
from open_r1.config.parser import kinds_of, known_flags, parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.yaml_file import ENVIRONMENT, config_path, file_complaints
from open_r1.errors import UsageError
from open_r1.plan.gpus import KNOWN_GPUS
from open_r1.plan.optimizers import OPTIMIZERS
from open_r1.plan.settings import ENGINES, Engine, engine_of_section
from open_r1.rehearse.ways_round import replaced

SET_HERE = {  # flags of a run that a rehearsal sets itself -> its value
    "output_dir": "rehearsal",
    "use_cpu": "true",
    "eval_strategy": "no",
    "report_to": "none",
    "disable_tqdm": "true",
    "val_split_ratio": "0",
    "keep_whole_steps": "0",
}
# Flags that a rehearsal does not know -> what one without them leaves out; None: it would be of another run.
NOT_REHEARSED: dict[str, str | None] = {
    "fsdp": None,
    "load_in_8bit": None,
    "rollout_ahead": "rollouts beside the update",
    "resample_zero_variance": "rollouts of the groups that replace those without spread",
    "row_sampling": "the choice of rows by difficulty",
    "vision_probe": "probes",
    "perception_coef": "passes with masked pictures",
    "visual_token_share": "passes with masked pictures",
    "noisy_rollouts": "prefills of noisy pictures and videos",
    "tools": None,
    "environment": None,
}
OF_THOSE = (  # flags that act only with one of those that can be left out, or cost nothing
    *("perception_mask_share", "perception_entropy_coef", "perception_masked_entropy_coef", "visual_advantage_min"),
    *("noise_step", "stop_on"),
)


@dataclass(frozen=True)
class Rehearsed:
    """What the flags ask to rehearse."""

    task: JsonlArguments
    training: GRPOArguments
    model: VLMConfig
    engine: Engine
    vllm: bool
    own: argparse.Namespace


def own_parser() -> argparse.ArgumentParser:
    """The flags of the rehearsal alone."""
    parser = argparse.ArgumentParser(
        prog="python -m open_r1.rehearse",
        description="Rehearses the first step of a run on a machine without a GPU; all flags of grpo_jsonl.py too.",
        allow_abbrev=False,
    )
    parser.add_argument("--processor", help="folder with the processor, where the model's has a config.json alone")
    parser.add_argument("--completion_length", type=int, help="tokens of each completion (default: the longest)")
    parser.add_argument("--nproc", type=int, default=1, help="GPUs of the run (default 1)")
    parser.add_argument("--gpu", choices=list(KNOWN_GPUS), help="the card, for times")
    parser.add_argument("--utilisation", type=float, default=0.4, help="share of its peak operations (default 0.4)")
    parser.add_argument("--gpu_price", type=float, help="of one GPU and hour, for bills")
    parser.add_argument("--json", action="store_true", help="print the bill's figures as JSON instead; needs --gpu")
    return parser


def parse_rehearsal(argv: Sequence[str]) -> Rehearsed:
    """The flags of a rehearsal, those of a `--config` file included. Exits with status 2, as the script of a run does,
    on what cannot act."""
    own, flags = own_parser().parse_known_args(argv)
    if not 0 < own.utilisation <= 1:
        raise UsageError(f"--utilisation: got {own.utilisation:g}, expected a share above 0 and at most 1")
    if own.json and not own.gpu:
        raise UsageError("--json: got no --gpu, but it prints the bill of a card; add --gpu NAME, or leave --json out")
    given = given_flags(flags)
    for name in NOT_REHEARSED:
        if is_on(given, name):
            got = value_of(given, name) or "true"
            raise UsageError(f"--{name}: got {got}, expected none: a rehearsal does not know it; leave it out")
    if is_on(given, "fp16"):
        raise UsageError(
            "--fp16: got true, expected none: a rehearsal computes in bfloat16, whose bytes and operations are those "
            "of float16; leave it out here, and set it in the run"
        )
    engine = engine_of_file(*given.get("deepspeed", [])[:1])
    vllm = is_on(given, "use_vllm")
    given = {name: words for name, words in given.items() if not name.startswith(("vllm_", "use_vllm"))}
    if any(word.startswith("flash") for word in given.get("attn_implementation", [])):
        given.pop("attn_implementation")  # packed passes take torch's flash kernel by themselves
    if engine.deepspeed:
        given |= {"dtype": ["bfloat16"], "bf16": ["false"]}
    elif "bf16" not in given:
        given["bf16"] = ["true"]  # as on a GPU
    given |= {name: [value] for name, value in SET_HERE.items()}
    with replaced(hardware, "_prepare_deepspeed", without_deepspeed):
        task, training, model = parse(JsonlArguments, as_words(given))
    if (optim := OptimizerNames(training.optim).value) not in OPTIMIZERS:
        raise UsageError(f"--optim: got {optim}, expected one of {', '.join(OPTIMIZERS)}: a rehearsal knows no other")
    return Rehearsed(task, training, model, engine, vllm, own)


def given_flags(words: Sequence[str]) -> dict[str, list[str]]:
    """Flag -> its words, of a run's command line and of its `--config` file. Raises UsageError as `flags_of_file`."""
    _, config = config_path(words)
    given = (flags_of_file(config) if config else {}) | as_pairs(words)
    given.pop("config", None)
    return given


def rehearsable(given: Mapping[str, list[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """The flags of a run without those that a rehearsal does not know, and what it then leaves out.

    >>> rehearsable({"noisy_rollouts": ["0.5"], "noise_step": ["9"], "vision_probe": ["0"], "seed": ["1"]})
    ({'seed': ['1']}, ['prefills of noisy pictures and videos'])
    """
    known = {name for name, left_out in NOT_REHEARSED.items() if left_out is None}
    kept = {name: words for name, words in given.items() if name not in {*NOT_REHEARSED, *OF_THOSE} - known}
    left = (what for name, what in NOT_REHEARSED.items() if what and is_on(given, name))
    return kept, list(dict.fromkeys(left))


def without_deepspeed(training: GRPOArguments) -> None:
    """In place of DeepSpeed's preparation, after all flags are checked: one rank is rehearsed without its code."""
    training.deepspeed = None


def flags_of_file(file: str) -> dict[str, list[str]]:
    """Flag -> its words, of a `--config` file. Raises UsageError with the lines that a run would refuse."""
    classes = (JsonlArguments, GRPOArguments, VLMConfig)
    complaints = file_complaints(file, known_flags(classes, REFUSED_GRPO_FLAGS), kinds_of(classes))
    if complaints:
        raise UsageError("\n".join(complaints))
    values = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    values.pop(ENVIRONMENT, None)  # of the run's processes
    return {name: yaml_words(value) for name, value in values.items() if value is not None}


def yaml_words(value: Any) -> list[str]:
    """A value of a YAML file as words of a command line.

    >>> yaml_words(True), yaml_words(["a", 1]), yaml_words({"b": 0.5}), yaml_words("two words")
    (['true'], ['a', '1'], ['{"b": 0.5}'], ['two words'])
    """
    if isinstance(value, list):
        return [str(part) for part in value]
    return [json.dumps(value) if isinstance(value, bool | dict) else str(value)]


def is_on(given: Mapping[str, list[str]], name: str) -> bool:
    """Whether a flag is set to anything but what leaves it out; alone it is set to true."""
    words = given.get(name)
    return words is not None and (not words or words[0].lower() not in ("false", "0", "uniform"))


def as_pairs(flags: Sequence[str]) -> dict[str, list[str]]:
    """Flag -> its words, of a command line.

    >>> as_pairs(["--a", "1", "--b=2", "--c", "x", "y z"])
    {'a': ['1'], 'b': ['2'], 'c': ['x', 'y z']}
    """
    pairs: dict[str, list[str]] = {}
    name = ""
    for word in flags:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            pairs[name] = [value] if value else []
        else:
            pairs.setdefault(name, []).append(word)
    return pairs


def value_of(given: Mapping[str, Sequence[str]], name: str, default: str = "") -> str:
    """The words of a flag as one text."""
    return " ".join(given.get(name, [default]))


def as_words(given: Mapping[str, Sequence[str]]) -> list[str]:
    """A command line again."""
    return [word for name, words in given.items() for word in (f"--{name}", *words)]


def engine_of_file(path: str | None = None) -> Engine:
    """The planner's engine of a DeepSpeed file; without one, of none."""
    if path is None:
        return ENGINES["none"]
    if not Path(path).is_file():
        raise UsageError(f"--deepspeed: got {path}, expected a JSON file; correct the path")
    zero = json.loads(Path(path).read_text(encoding="utf-8")).get("zero_optimization", {})
    return engine_of_section(zero, Path(path).stem, path)
