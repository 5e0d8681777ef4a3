"""Prints a table before training: rows, model, batch, rewards, planned memory and optimizations."""

from collections.abc import Sequence

import torch
from peft import PeftModel
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel
from transformers.training_args import OptimizerNames

from open_r1.data.geometry.conventions import CONVENTIONS
from open_r1.data.prompt_tokens import prompt_tokens
from open_r1.data.record import Record
from open_r1.errors import UsageError, shorten
from open_r1.models.flash_kernel import why_no_flash
from open_r1.models.loading import pixel_limits
from open_r1.models.quantization import base_of, base_text, stored_bytes, weight_count
from open_r1.plan.config_numbers import HEADS, HIDDEN, key_and_value_size, patches_of_token, setting_of
from open_r1.plan.dims import dims_of
from open_r1.plan.media import TILES
from open_r1.plan.memory import GIB, rollout_bytes, total_bytes, training_bytes
from open_r1.plan.optimizers import OPTIMIZERS
from open_r1.plan.settings import ENGINES, Engine, PlannedRun, engine_of_section
from open_r1.plan.states import state
from open_r1.plan.with_tools import tool_patches
from open_r1.tools.toolbox import Toolbox
from open_r1.trainer.forward.image_sight import image_sight
from open_r1.trainer.forward.log_probs import computation_bytes
from open_r1.trainer.grpo_trainer import VLMGRPOTrainer

SAMPLED_ROWS = 32


def show_preflight(trainer: VLMGRPOTrainer) -> None:
    """Print the table on rank 0."""
    facts = preflight_facts(trainer)
    if trainer.accelerator.is_main_process:
        table = Table(title="GRPO run", show_header=False)
        for name, value in facts.items():
            table.add_row(name, value)
        console = Console(stderr=True)
        console.print(table, width=None if console.is_terminal else 120)


def preflight_facts(trainer: VLMGRPOTrainer) -> dict[str, str]:
    """Name -> value of each line of the table."""
    args, records = trainer.args, trainer.records["train"]
    prompts = args.generation_batch_size // args.num_generations
    left_out = len(records) % prompts
    sample = [records[i] for i in range(0, len(records), max(1, len(records) // SAMPLED_ROWS))][:SAMPLED_ROWS]
    shown = {"frames": trainer.loader.frames, "video_form": trainer.fields.video_form or "native"}
    tokens = [prompt_tokens(record, trainer.processing_class, trainer.instruction, **shown) for record in sample]
    kind = trainer.model.config.model_type
    evaluated = len(trainer.records["eval"] or ())
    return {
        "rows": f"{len(records):,}"
        + (f" and {evaluated:,} for evaluation" if evaluated else "")
        + rows_text(args.row_sampling, left_out, prompts),
        "images per row": value_range([len(record.images) for record in sample]),
        **videos_text(trainer, sample),
        **tools_text(trainer.toolbox),
        "prompt": shorten(trainer.instruction, 200),
        "model": f"{kind}, {trainer.model.config._name_or_path}{base_text(trainer.model)}",
        "family": f"{'listed' if kind in CONVENTIONS else 'unlisted: rules decide what acts'}; boxes in "
        f"{trainer.box_space or 'no known space: tasks with boxes need --box_space'}",
        "parameters": parameter_counts(trainer.model),
        "groups per step": f"{prompts // max(1, args.steps_per_generation // args.gradient_accumulation_steps)} of "
        f"{args.num_generations} completions",
        "tokens per group": f"prompt {value_range(tokens)}, completions at most "
        f"{args.num_generations * trainer.max_completion_length:,}",
        "rewards": ", ".join(
            f"{name} x {weight:g}"
            for name, weight in zip(trainer.reward_func_names, trainer.reward_weights.tolist(), strict=True)
        ),
        "memory per device": memory_text(trainer, max(tokens)),
        "packed attention": attention_text(trainer),
        "computed once": "\n".join(trainer.optimizations.lines()),
    }


def videos_text(trainer: VLMGRPOTrainer, sample: Sequence[Record]) -> dict[str, str]:
    """The line of videos; none where no row has one."""
    form, frames = trainer.fields.video_form, trainer.loader.frames
    if form is None or not any(record.videos for record in sample):
        return {}
    shown = "by the model's own processor" if form == "native" else "as frames, each a picture behind its time"
    limits = f"{frames.fps:g} frames a second, at most {frames.max_frames} of {frames.max_pixels:,} pixels"
    return {"videos per row": f"{value_range([len(record.videos) for record in sample])}, shown {shown}; {limits}"}


def tools_text(toolbox: Toolbox | None) -> dict[str, str]:
    """The line of tools, by name, with the environment's and what bounds them; none where there is none."""
    if toolbox is None:
        return {}
    limits, names = toolbox.limits, ", ".join(toolbox.tools)
    area = f" of at most {limits.pixels:,} pixels" if limits.pixels else ""
    text = f"{names}{' of an environment' if toolbox.arena else ''}; at most {limits.turns} turns and {limits.images} "
    return {"tools": f"{text}pictures{area} a completion, {toolbox.workers} completions answered at once"}


def attention_text(trainer: VLMGRPOTrainer) -> str:
    """The kernel of attention over packed groups and a vision tower's windows, and why it is no other."""
    if not trainer.optimizations["shared_prefix"]:
        return "none: rows are padded"
    model, device = trainer.accelerator.unwrap_model(trainer.model), trainer.accelerator.device
    text = model.config.get_text_config()
    width = key_and_value_size(text, setting_of(text, HIDDEN), setting_of(text, HEADS, 1))
    mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.accelerator.mixed_precision)
    reason = why_no_flash(device, mixed or model.dtype, {width})
    if reason is None and image_sight(trainer.backbone_of(trainer.model)):
        reason = "images of this family see themselves, which takes a mask"
    return "torch's flash kernel, without padding" if reason is None else f"sdpa; no flash kernel: {reason}"


def rows_text(sampling: str, left_out: int, prompts: int) -> str:
    """How the rows of a generation of `prompts` prompts are chosen, where an epoch is not all rows.

    >>> rows_text("uniform", 0, 8), rows_text("difficulty", 3, 8)
    ('', ' (drawn by difficulty, 8 a generation)')
    """
    if sampling == "difficulty":
        return f" (drawn by difficulty, {prompts} a generation)"
    left = f" ({left_out} left out of each epoch, other ones each time: {prompts} prompts a generation)"
    return left if left_out else ""


def value_range(values: list[int]) -> str:
    """The smallest and largest value as text.

    >>> value_range([2, 2]), value_range([1, 4])
    ('2', '1 to 4')
    """
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low:,} to {high:,}"


def parameter_counts(model: PreTrainedModel) -> str:
    """The numbers of all and of trained parameters as text."""
    total, trained = count_parameters(model)
    return f"{total:,}, of which {trained:,} are trained"


def count_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """The numbers of (all, trained) parameters of the whole model, also under ZeRO-3, where each is a shard."""
    sizes = [(getattr(p, "ds_numel", weight_count(p)), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def memory_text(trainer: VLMGRPOTrainer, longest: int) -> str:
    """A device's constant memory, and the planner's peaks of rollout and training for prompts of `longest` tokens."""
    engine, ranks = engine_of(trainer), trainer.accelerator.num_processes
    size = next(trainer.model.parameters()).element_size()
    total, trained = count_parameters(trainer.model)
    optim = OptimizerNames(trainer.args.optim).value
    if optim not in OPTIMIZERS:
        return f"no plan: the memory of --optim {optim} is not known"
    parts = state(total, trained, size, engine, ranks, trainer.ref_model is not None, optim)
    if base_of(trainer.model):
        parts["weights"] = sum(map(stored_bytes, trainer.model.parameters()))
    terms = ", ".join(f"{name} {bytes_ / GIB:.2f}" for name, bytes_ in parts.items() if bytes_)
    static = f"{total_bytes(parts) / GIB:.2f} GiB ({terms})"
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel):
        return f"{static}, activations and KV cache on top"
    try:
        device_bytes = memory_of(trainer.accelerator.device)
        dims, run = dims_of(model), planned_run_of(trainer, longest, engine, size, device_bytes)
    except UsageError as error:
        return f"{static}, activations and KV cache on top; no plan: {error}"
    peaks = f"rollout {gib(rollout_bytes(dims, run))}, training {gib(training_bytes(dims, run))} GiB"
    return f"{static}; planned peaks: {peaks}"


def gib(parts: dict[str, float]) -> str:
    """The sum of parts in GiB as text."""
    return f"{total_bytes(parts) / GIB:.2f}"


def engine_of(trainer: VLMGRPOTrainer) -> Engine:
    """The run's engine as the planner names it; FSDP counts as ZeRO-3, which shards the same."""
    plugin = trainer.accelerator.state.deepspeed_plugin
    if plugin is None:
        return ENGINES["zero3" if trainer.is_fsdp_enabled else "none"]
    return engine_of_section(plugin.deepspeed_config["zero_optimization"])


def memory_of(device: torch.device) -> float:
    """Bytes of a CUDA device; 0 of another."""
    return float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else 0.0


def patches_of_tools(trainer: VLMGRPOTrainer) -> int:
    """The most patches of the pictures that tools give to a completion. Raises UsageError where that is unknown."""
    if trainer.toolbox is None:
        return 0
    processor, limits, config = trainer.processing_class, trainer.toolbox.limits, trainer.model.config
    area = min(filter(None, [limits.pixels, pixel_limits(processor)[1]]), default=0)
    tiles = getattr(processor.image_processor, "max_patches", TILES)
    return tool_patches(
        config, trainer.max_completion_length, limits.images, area, tiles=tiles, name=config._name_or_path
    )


def planned_run_of(
    trainer: VLMGRPOTrainer, longest: int, engine: Engine, size: int, device_bytes: float
) -> PlannedRun:
    """The planner's settings of this run, whose weights have `size` bytes, on a device of `device_bytes`; all tokens
    of the longest prompt count as an image's, an upper bound."""
    args = trainer.args
    return PlannedRun(
        prompt_tokens=longest,
        patches_per_prompt=longest * patches_of_token(trainer.model.config),
        completion_tokens=trainer.max_completion_length,
        group_size=args.num_generations,
        batch_completions=args.per_device_train_batch_size,
        accumulation_steps=args.steps_per_generation,
        tokens_per_forward=args.tokens_per_forward,
        gpus=trainer.accelerator.num_processes,
        engine=engine,
        bytes_per_weight=size,
        bytes_per_computed_number=computation_bytes(trainer),
        autocast=trainer.accelerator.mixed_precision in ("bf16", "fp16"),
        gradient_checkpointing=args.gradient_checkpointing,
        reference_model=trainer.ref_model is not None,
        optim=OptimizerNames(args.optim).value,
        gather_for_rollouts=args.ds3_gather_for_generation,
        vllm_mode=args.vllm_mode if args.use_vllm else None,
        vllm_memory_share=args.vllm_gpu_memory_utilization,
        vllm_sleep_mode=args.vllm_enable_sleep_mode,
        tools=trainer.toolbox is not None,
        patches_per_completion=patches_of_tools(trainer),
        device="cuda" if trainer.accelerator.device.type == "cuda" else "cpu",
        device_bytes=device_bytes,
    )
