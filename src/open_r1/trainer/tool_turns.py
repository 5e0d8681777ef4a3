"""What a run with tools does beside sampling: its tools, which tokens count, what rewards see, metrics."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from accelerate.utils import gather_object
from transformers import ProcessorMixin

from open_r1.config.training_arguments import GRPOArguments, SFTArguments
from open_r1.data.prompt_length import Limit
from open_r1.errors import UsageError
from open_r1.rewards.turns import Message
from open_r1.rollout.annotation import BoxFrame
from open_r1.rollout.tool_pictures import why_no_tool_pictures
from open_r1.rollout.trajectory import loaded_trajectory
from open_r1.rollout.turns import RowsGoingOn, Sample, TurnRollout, TurnSampler, by_itself
from open_r1.tools.limits import ToolLimits
from open_r1.tools.listing import offer_tools, refuse_control_tokens
from open_r1.tools.messages import ModelTurn, turn_messages
from open_r1.tools.toolbox import Toolbox, make_toolbox
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.outputs.whole_steps import WholePart
from open_r1.trainer.protocols import RolloutTrainer


def toolbox_of(training: GRPOArguments, processor: ProcessorMixin) -> Toolbox | None:
    """The run's tools, with their workers started before CUDA starts; None without --tools and --environment. Raises
    UsageError."""
    if not (training.tools or training.environment):
        return None
    limits = ToolLimits(training.max_tool_turns, training.max_tool_images, training.max_tool_pixels)
    bounds = (training.tool_seconds, training.tool_memory_gb, training.tool_errors)
    given = (*bounds, training.environment, training.tool_workers)
    toolbox = make_toolbox(training.tools or (), processor.chat_template, limits, *given)
    refuse_control_tokens(toolbox, processor)
    toolbox.start()
    return toolbox


def listed_tools(training: GRPOArguments | SFTArguments, processor: ProcessorMixin) -> Toolbox | None:
    """The run's tools as prompts list them, which answer no calls; None without --tools."""
    if not training.tools:
        return None
    toolbox = make_toolbox(training.tools, processor.chat_template)
    refuse_control_tokens(toolbox, processor)
    return toolbox


def refuse_unknown_space(toolbox: Toolbox | None, frame: BoxFrame) -> None:
    """Raises UsageError where a tool reads boxes in a space that is not known."""
    if toolbox is not None and toolbox.needs_frame and frame.missing:
        raise UsageError(f"--tools: a tool reads boxes that the model writes; {frame.missing}")


def less_listing(limits: Sequence[Limit], toolbox: Toolbox | None, processor: ProcessorMixin) -> list[Limit]:
    """Limits of a prompt, less the tokens of the list of tools that stands in each."""
    if toolbox is None:
        return list(limits)
    plain = [{"role": "user", "content": [{"type": "text", "text": "."}]}]
    offered, options = offer_tools(plain, toolbox)
    texts = [
        processor.apply_chat_template(chat, tokenize=False, **more) for chat, more in ((offered, options), (plain, {}))
    ]
    longer, shorter = (len(ids) for ids in processor.tokenizer(texts, add_special_tokens=False)["input_ids"])
    listing = longer - shorter
    return [
        replace(limit, tokens=limit.tokens - listing, expected=f"{limit.expected}, of which {listing} list the tools")
        for limit in limits
    ]


def refuse_one_turn(trainer: RolloutTrainer) -> None:
    """Raises UsageError for a model whose rollouts are one turn, or whose completions take no pictures of tools."""
    if trainer.engine is None and (reason := trainer.optimizations.off["prefill_once"]):
        raise UsageError(f"--tools: got a model whose completions cannot go on behind a tool's answer: {reason}")
    if trainer.args.max_tool_images == 0:
        return
    if reason := why_no_tool_pictures(trainer.processing_class, trainer.fields, trainer.loader.template):
        raise UsageError(
            f"--tools: got a model whose completions take no pictures of tools: {reason}; choose another model, or "
            "--max_tool_images 0 and tools that return text alone"
        )


def turn_sampler(
    trainer: RolloutTrainer, sample: Sample, in_step: Callable[[RowsGoingOn], tuple[list[int], bool]] = by_itself
) -> TurnSampler:
    """How completions of the run's rows are sampled with its tools, their turns by `sample`, ranks by `in_step`."""
    return TurnSampler(
        sample=sample,
        toolbox=trainer.toolbox,
        processor=trainer.processing_class,
        fields=trainer.fields,
        template=trainer.loader.template,
        ends=trainer.eos_token_ids,
        tokens=trainer.max_completion_length,
        place=trainer.turns_on_device,
        in_step=in_step,
    )


def ranks_in_step(answer: RowsGoingOn) -> tuple[list[int], bool]:
    """What `answer` gives on this rank, sorted, and whether it gives a row on any. All ranks call it. Raises, on all
    ranks, what it raises on one."""
    rows = on_all_ranks(lambda: sorted(answer()))
    return rows, any(gather_object([bool(rows)]))


def scored_tokens(rollouts: Sequence[TurnRollout]) -> list[list[int]]:
    """1 for tokens that the model sampled, 0 for those of tools, as TRL's tool mask."""
    return [list(map(int, one.trajectory.scored)) for one in rollouts]


def messages_of_rollouts(rollouts: Sequence[TurnRollout]) -> list[list[Message]]:
    """Completions as rewards and logs take them."""
    return [turn_messages(one.turns, one.earned) for one in rollouts]


def kept_rollouts(part: WholePart) -> list[TurnRollout]:
    """The completions of a part that was kept, without tensors, calls and answers; empty without tools."""
    kept = zip(part.trajectories or (), part.texts, strict=part.trajectories is not None)
    return [TurnRollout(loaded_trajectory(saved), None, (ModelTurn(text),), None) for saved, text in kept]


def tool_counts(rollout: TurnRollout) -> dict[str, float]:
    """What is counted of one completion."""
    answers = [answer for turn in rollout.turns for answer in turn.answers]
    return {
        "calls": float(sum(len(turn.calls) for turn in rollout.turns)),
        "answers": float(len(answers)),
        "errors": float(sum(answer.error for answer in answers)),
        "truncated": float(rollout.limit is not None),
        "used": float(bool(answers)),
        "sampled": float(sum(rollout.trajectory.scored)),
        "tokens": float(len(rollout.trajectory.ids)),
    }


def log_tools(trainer: RolloutTrainer, rollouts: Sequence[TurnRollout]) -> None:
    """Log means over the completions of all ranks; errors are a share of the answers."""
    counts = [tool_counts(one) for one in rollouts]
    sums = torch.tensor([[*map(sum, zip(*(each.values() for each in counts), strict=True)), len(counts)]])
    gathered = trainer.accelerator.gather(sums.to(trainer.accelerator.device)).sum(dim=0).tolist()
    total = dict(zip([*counts[0], "completions"], gathered, strict=True))
    values = {
        "tools/calls": total["calls"] / total["completions"],
        "tools/errors": total["errors"] / max(total["answers"], 1),
        "tools/truncated": total["truncated"] / total["completions"],
        "tools/used_share": total["used"] / total["completions"],
        "tools/sampled_tokens": total["sampled"] / total["completions"],
        "tools/answer_tokens": (total["tokens"] - total["sampled"]) / total["completions"],
    }
    metrics = trainer._metrics["train" if trainer.model.training else "eval"]
    for name, value in (values | measures_of_all(trainer, rollouts)).items():
        metrics[name].append(value)


def measures_of_all(trainer: RolloutTrainer, rollouts: Sequence[TurnRollout]) -> dict[str, float]:
    """The means of what an environment's reward shows beside it, over the completions of all ranks that have it."""
    if trainer.toolbox.arena is None:
        return {}
    gathered = gather_object([dict(one.earned.measures) for one in rollouts])
    names = dict.fromkeys(name for measures in gathered for name in measures)
    known = {name: [measures[name] for measures in gathered if name in measures] for name in names}
    return {f"environment/{name}": sum(values) / len(values) for name, values in known.items()}


def log_used_advantage(trainer: RolloutTrainer, rollouts: Sequence[TurnRollout], advantages: torch.Tensor) -> None:
    """Log the mean advantage of completions that use a tool, over groups of all ranks in which others use none."""
    used = torch.tensor([any(turn.answers for turn in one.turns) for one in rollouts], device=advantages.device)
    groups = used.view(-1, trainer.num_generations).float()
    mixed = ((groups.mean(dim=1) % 1) != 0)[:, None] & groups.bool()
    sums = torch.stack([(advantages.view_as(groups) * mixed).sum(), mixed.sum().float()])
    total, count = trainer.accelerator.reduce(sums, reduction="sum").tolist()
    if count:
        trainer._metrics["train"]["tools/used_advantage"].append(total / count)
