"""The command line of a survey: its own flags, and those of the run that it is for, parsed as training parses them."""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_r1.config import hardware
from open_r1.config.generation_fields import check_generation_kwargs, given_kwargs
from open_r1.config.parser import parse
from open_r1.config.task_arguments import JsonlArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.data.jsonl_dataset import per_file
from open_r1.data.model_place import refuse_no_model
from open_r1.data.paths import data_files
from open_r1.errors import UsageError
from open_r1.evaluation.flags import add_engine_flags
from open_r1.evaluation.settings import BATCH_SIZES, EvaluationSettings
from open_r1.evaluation.training_rewards import refuse_trainers_rewards
from open_r1.evaluation.vllm_engine import OF_TORCHRUN
from open_r1.plan.gpus import KNOWN_GPUS
from open_r1.rehearse.flags import as_pairs, as_words, value_of
from open_r1.rehearse.ways_round import replaced
from open_r1.tasks.find import find_task

BACKENDS = {"transformers": "hf", "vllm": "vllm"}
LEAST_SAMPLES = 8
# Flags of the run's machine and optimizer, which change no completion and no reward: the rehearsal alone reads them.
OF_MACHINE = (
    *("deepspeed", "ds3_", "fsdp", "bf16", "fp16", "tf32", "use_vllm", "vllm_", "rollout_ahead", "attn_", "optim"),
    *("adam_", "use_liger", "liger_", "local_rank", "generation_kwargs"),  # the last is checked later
)
SET_FOR_PARSING = {"use_cpu": ["true"], "output_dir": ["survey"]}


@dataclass(frozen=True)
class SurveyPlan:
    """What the flags ask: the survey's `own`, the run's (parsed, and as typed), the evaluator's settings of the look
    at the rows' own pictures."""

    own: argparse.Namespace
    task: JsonlArguments
    training: GRPOArguments
    settings: EvaluationSettings
    run_flags: Mapping[str, list[str]]

    @property
    def samples(self) -> int:
        """Completions a row."""
        return self.settings.num_samples

    @property
    def group(self) -> int:
        """Completions of a group of the run."""
        return self.training.num_generations

    @property
    def step_completions(self) -> int:
        """Completions that the run learns from in a step, on all its GPUs."""
        batch = self.training.per_device_train_batch_size * self.training.gradient_accumulation_steps
        return batch * self.own.nproc


def survey_parser() -> argparse.ArgumentParser:
    """The flags of the survey alone."""
    parser = argparse.ArgumentParser(
        prog="python -m open_r1.survey",
        description="Surveys rows before a run: which would teach, how much needs the picture, what the run costs. "
        "Takes all flags of grpo_jsonl.py too, so that a run's command can be pasted: those of prompts, sampling and "
        "rewards act on completions, the others on hours and price (--gpu).",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", help="hub name or folder of the model to train (--model_name_or_path of the run)")
    add("--output_dir", type=Path, help="folder of the page and of all answers; a survey there is continued")
    add("--rows", type=int, default=500, help="rows that are drawn with --seed (default 500)")
    add("--samples", type=int, help="completions a row (default 8, or --num_generations where that is more)")
    add("--picture_samples", type=int, default=2, help="completions a row with a blank and another picture; 0: none")
    add("--backend", choices=list(BACKENDS), help="default: vllm with --use_vllm true, else transformers")
    add("--device", default="auto", help="auto, cpu, cuda:0, ...")
    add_engine_flags(parser)
    add("--gpu", choices=list(KNOWN_GPUS), help="the card of the run, for its hours")
    add("--gpu_price", type=float, help="of one GPU and hour, for its price")
    add("--nproc", type=int, default=1, help="GPUs of the run (default 1)")
    return parser


def parse_survey(argv: Sequence[str]) -> SurveyPlan:
    """The plan of a command line. Raises UsageError for flags that cannot act; for those of the run that cannot, exits
    with status 2 as its script does."""
    own, words = survey_parser().parse_known_args(argv)
    given = as_pairs(words)
    check_own_flags(own, given)
    if own.model:
        given["model_name_or_path"] = [own.model]
    kept = {name: value for name, value in given.items() if not name.startswith(OF_MACHINE)} | SET_FOR_PARSING
    with outside_torchrun(), replaced(hardware, "_prepare_deepspeed", leave_deepspeed):
        task, training, model = parse(JsonlArguments, as_words(kept))
    backend = BACKENDS[own.backend or ("vllm" if value_of(given, "use_vllm").lower() == "true" else "transformers")]
    training.use_vllm, training.generation_kwargs = backend == "vllm", value_of(given, "generation_kwargs") or None
    check_generation_kwargs(training)
    refuse_no_model(model.model_name_or_path, "--model", model.model_revision)
    refuse_other_weights(model)
    refuse_trainers_rewards(task, "a survey")
    samples = own.samples or max(LEAST_SAMPLES, training.num_generations)
    check_sampling(samples, training)
    return SurveyPlan(own, task, training, settings_of_survey(own, given, task, training, model, samples), given)


def check_own_flags(own: argparse.Namespace, given: Mapping[str, list[str]]) -> None:
    """Raises UsageError for the survey's own flags that cannot act."""
    if own.model and "model_name_or_path" in given:
        raise UsageError("--model: got a name beside --model_name_or_path, but both name the model; leave one out")
    if not own.output_dir:
        raise UsageError("--output_dir: got nothing, but a survey leaves a page and answers; name a folder")
    for name in ("metrics.jsonl", "resolved_config.yaml"):
        if (own.output_dir / name).exists():
            raise UsageError(
                f"--output_dir: got {own.output_dir}, which holds a run ({name}), but a survey has a folder of its "
                f"own; set --output_dir {own.output_dir}-survey"
            )
    for name, least in (("rows", 1), ("samples", 2), ("picture_samples", 0), ("nproc", 1), ("batch_size", 1)):
        value = getattr(own, name)
        if value is not None and value < least:
            raise UsageError(f"--{name}: got {value}, but the least is {least}; raise it, or leave it out")
    if own.gpu_price is not None and not (own.gpu and own.gpu_price > 0):
        raise UsageError(
            f"--gpu_price: got {own.gpu_price:g}, but a price is above 0 and of a card; name it by --gpu, or leave it "
            "out"
        )
    if own.backend == "transformers" and (own.tensor_parallel_size > 1 or own.max_model_len):
        raise UsageError("--tensor_parallel_size, --max_model_len: got --backend transformers, but they act with vllm")


def check_sampling(samples: int, training: GRPOArguments) -> None:
    """Raises UsageError for sampling that tells nothing of the run's groups."""
    if samples < training.num_generations:
        raise UsageError(
            f"--samples: got {samples}, but whether a group of --num_generations {training.num_generations} would "
            f"teach is estimated from as many completions a row; set --samples {training.num_generations}"
        )
    if training.temperature <= 0:
        raise UsageError(f"--temperature: got {training.temperature:g}, but groups are sampled; set it above 0")


def refuse_other_weights(model: Any) -> None:
    """Raises UsageError for a start of the run that the evaluator does not load."""
    if model.load_in_4bit:
        raise UsageError("--load_in_4bit: got true, but a survey samples from whole weights; leave it out")
    if model.model_revision not in (None, "main"):
        raise UsageError(
            f"--model_revision: got {model.model_revision}, but a survey reads main; download that revision, and name "
            "its folder by --model"
        )


def settings_of_survey(
    own: argparse.Namespace,
    given: Mapping[str, list[str]],
    task: JsonlArguments,
    training: GRPOArguments,
    model: Any,
    samples: int,
) -> EvaluationSettings:
    """The evaluator's settings for rollouts as the run samples them."""
    paths = data_files(task.data_file_paths)
    if duplicates := {path for path in paths if paths.count(path) > 1}:
        raise UsageError(f"--data_file_paths: got {duplicates.pop()} twice, but a row is surveyed once; remove one")
    backend = "vllm" if training.use_vllm else "hf"
    method = task.reward_method or find_task(task.task_type).method
    return EvaluationSettings(
        model=model.model_name_or_path,
        data_file_paths=paths,
        image_folders=task.image_folders,
        output_dir=own.output_dir,
        tasks=[task.task_type] * len(paths),
        methods=per_file(method, paths, "--reward_method"),
        prompt_mode=task.prompt_mode,
        prompt_template=task.prompt_template,
        max_completion_length=training.max_completion_length,
        num_samples=samples,
        **{name: getattr(training, name) for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")},
        generation_kwargs=given_kwargs(training.generation_kwargs),
        chat_template_kwargs=given_kwargs(training.chat_template_kwargs),
        seed=training.seed,
        **{n: getattr(task, n) for n in ("max_pixels", "min_pixels", "max_anyres_num", "box_space", "fields")},
        **{
            n: getattr(task, n)
            for n in ("video_fps", "video_max_frames", "video_max_pixels", "video_form", "video_cache_gb")
        },
        backend=backend,
        batch_size=own.batch_size or BATCH_SIZES[backend],
        dtype=model.dtype or "auto",
        device=own.device,
        attn_implementation=value_of(given, "attn_implementation", "sdpa"),
        trust_remote_code=training.trust_remote_code,
        image_workers=int(value_of(given, "image_workers", "2")),
        tensor_parallel_size=own.tensor_parallel_size,
        gpu_memory_utilization=own.gpu_memory_utilization,
        max_model_len=own.max_model_len,
        overwrite=own.overwrite,
    )


def leave_deepspeed(training: GRPOArguments) -> None:
    """Forget DeepSpeed's file, which says nothing of completions."""
    training.deepspeed = None


@contextmanager
def outside_torchrun() -> Iterator[None]:
    """Inside this context the process looks like one alone: ranks of a survey share files, and no process group."""
    taken = {name: os.environ.pop(name) for name in OF_TORCHRUN if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)
