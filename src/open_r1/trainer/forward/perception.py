r"""Losses that reward looking, from one more packed pass over the same completions with masked pictures.

`k_t` is the KL of token t between the policy with the clean and with the masked picture, by the k3 estimator on the
sampled token, in nats: k_t = exp(m_t - l_t) - (m_t - l_t) - 1, where l_t and m_t are its log-probs with the clean and
the masked picture; m_t - l_t is cut to [-20, 20] and k_t to at most 10.

PAPO (Wang et al., ICLR 2026, arXiv:2507.06448) adds to the loss of GRPO or DAPO

    - g mean(k_t) + e1 mean(-l_t) + e2 mean(-m_t)

with g = `--perception_coef`, e1 = `--perception_entropy_coef`, e2 = `--perception_masked_entropy_coef`: the KL is
maximized, and both entropies, each estimated by the sampled token, are minimized, which keeps the KL from being raised
by noise. From the paper and its code: the three terms, the estimator with its bounds, patches of 14 pixels that are
black with probability 0.6 (`--perception_mask_share`), g of 0.01 to 0.02, e1 = e2 = 0.03 with g = 0.01. In its code
m_t is by default computed once, without gradient, although the second entropy then moves nothing; so it is here with
e2 = 0, the default. With e2 above 0 the gradient flows through m_t too, in both terms, which doubles an update.

VPPO (Huang et al., ICLR 2026, arXiv:2510.09285) multiplies the advantage of token t of completion i by w_it =
a_i [t is among the ceil(s n_i) tokens of completion i with the largest k_t], s = `--visual_token_share` (theirs 0.4)
and n_i its tokens, where

    a_i = b + (B - b) z_i,  z_i = (K_i - min K) / (max K - min K),  K_i = mean_t(k_it),  B = b + (1 - b) / mean(z)

with b = `--visual_advantage_min` (theirs 0.9): the mean of a_i is 1. From the paper and its code: all of that, and
masks of probability 0.5. Without gradient through k.

Ours: one mask a prompt and step, drawn from (seed, step, row), so that ranks agree and resumed runs repeat it; k of
the policy that learns, where VPPO's code takes the one that sampled; min, max and mean over the completions of a
rank's micro-batch whose advantage is not 0, where VPPO's code takes the whole batch for min and max; means as
`--loss_type` takes them of its tokens; rows without pictures keep the plain loss. Pictures that tools put into a
completion are masked too, each completion's by a mask of its own, drawn from its place in the group as well, and
tools' tokens have no k.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from trl.models.utils import disable_gradient_checkpointing

from open_r1.config.training_arguments import GRPOArguments
from open_r1.rollout.batching import Pictured
from open_r1.rollout.prompt_loader import RowNumber
from open_r1.rollout.prompts import Prompt
from open_r1.trainer.distributed import weights_are_sharded
from open_r1.trainer.forward.patch_masks import mask_patches
from open_r1.trainer.generation_batch import LossRows
from open_r1.trainer.protocols import RolloutTrainer

FURTHEST, MOST_NATS = 20.0, 10.0  # nats: bounds of a difference of log-probs, and of a token's KL
MASK_SHARES = {"papo": 0.6, "vppo": 0.5}

PolicyLoss = Callable[[torch.nn.Module, dict[str, Any]], torch.Tensor]


def rewards_looking(args: GRPOArguments) -> bool:
    """Whether a run's loss needs the pass with masked pictures."""
    return bool(args.perception_coef) or args.visual_token_share < 1


def mask_share(args: GRPOArguments) -> float:
    """The share of patches to mask: the flag's, else that of the paper."""
    return args.perception_mask_share or MASK_SHARES["papo" if args.perception_coef else "vppo"]


def perception_aware_loss(
    trainer: RolloutTrainer, model: torch.nn.Module, inputs: dict[str, Any], rows: LossRows, policy_loss: PolicyLoss
) -> torch.Tensor:
    """The loss of a micro-batch with PAPO's terms, VPPO's weights or both; `policy_loss(model, inputs)` is the plain
    one."""
    args, mask = trainer.args, inputs["completion_mask"] * inputs.get("tool_mask", 1)
    lengths = inputs["completion_mask"].sum(dim=1).tolist()
    masked = masked_pictures(trainer, rows, inputs["rows"])
    shown = torch.tensor([prompt is not None for prompt in masked.prompts], device=mask.device)
    masked_logps = score_masked(trainer, masked, rows, inputs["completion_ids"], lengths)
    options = {"output_router_logits": True} if trainer.aux_loss_enabled else {}
    batch = (rows.prompts, inputs["completion_ids"], lengths)
    rows.scores = trainer.score_in_parts(model, *batch, entropy=True, turns=rows.turns, **options)
    logps, counted = rows.scores.logps, mask * shown[:, None]
    kl = token_kl(logps, masked_logps)
    log_token_mean(trainer, "perception/kl", kl.detach(), counted)
    if args.visual_token_share < 1:
        weights = visual_weights(kl.detach(), mask, shown & (inputs["advantages"] != 0), args)
        weights = torch.where(shown[:, None], weights, 1.0)
        inputs = {**inputs, "advantages": inputs["advantages"][:, None] * weights}
    loss = policy_loss(model, {**inputs, "pixel_values": rows})
    if args.perception_coef:
        terms = -args.perception_coef * kl - args.perception_entropy_coef * logps
        terms = terms - args.perception_masked_entropy_coef * masked_logps
        loss = loss + mean_of_tokens(trainer, terms * shown[:, None], mask, inputs)
    return loss


# ----------------------------------------------------------------------------------------------------- the second pass


def masked_pictures(trainer: RolloutTrainer, rows: LossRows, numbers: Sequence[RowNumber]) -> LossRows:
    """The rows with masked pictures, one prompt a group; None for rows left out and for rows without pictures."""

    def masked(part: Pictured, *seed: int) -> Pictured:
        seeds = [trainer.args.seed, trainer.state.global_step, *seed]
        return mask_patches(part, trainer.black_pixels, mask_share(trainer.args), seeds)

    turns = rows.turns or [None] * len(rows.prompts)
    made: dict[int, Prompt] = {}
    for prompt, number in zip(rows.prompts, numbers, strict=True):
        if prompt is not None and id(prompt) not in made:
            made[id(prompt)] = masked(prompt, number["row"])
    prompts = [
        made[id(prompt)] if prompt is not None and (prompt.images or (turn and turn.images)) else None
        for prompt, turn in zip(rows.prompts, turns, strict=True)
    ]
    places = (1 + place % trainer.num_generations for place in range(len(turns)))  # in its group: on any rank the same
    numbered = zip(turns, numbers, places, strict=True)
    return LossRows(prompts, [turn and masked(turn, number["row"], place) for turn, number, place in numbered])


def score_masked(
    trainer: RolloutTrainer,
    masked: LossRows,
    rows: LossRows,
    completions: torch.Tensor,
    lengths: Sequence[int],
) -> torch.Tensor:
    """(N, C) log-probs with masked pictures, 0 in rows without; with gradient where their entropy counts.

    Ranks that share weights make as many passes: one without any picture computes its rows as they are.
    """
    if not any(masked.prompts):
        if not weights_are_sharded(trainer):
            return torch.zeros(completions.shape, device=completions.device)
        masked = rows
    inner = trainer.accelerator.unwrap_model(trainer.model)
    if trainer.args.perception_coef and trainer.args.perception_masked_entropy_coef:
        return trainer.score_in_parts(inner, masked.prompts, completions, lengths, turns=masked.turns).logps
    with torch.no_grad(), disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
        return trainer.score_in_parts(inner, masked.prompts, completions, lengths, turns=masked.turns).logps


# ------------------------------------------------------------------------------------------------------------ formulas


def token_kl(logps: torch.Tensor, masked_logps: torch.Tensor) -> torch.Tensor:
    """(N, C) k_t in nats, in [0, MOST_NATS], from log-probs (N, C) with the clean and the masked pictures.

    >>> token_kl(torch.tensor([0.0]), torch.tensor([-1.0]))
    tensor([0.3679])
    """
    difference = (masked_logps - logps).clamp(-FURTHEST, FURTHEST)
    return (difference.exp() - difference - 1).clamp(max=MOST_NATS)


def visual_weights(kl: torch.Tensor, mask: torch.Tensor, moving: torch.Tensor, args: GRPOArguments) -> torch.Tensor:
    """(N, C) w_it of VPPO from `kl` and `mask` (N, C); `moving` (N,): rows over which trajectories are compared."""
    lengths = mask.sum(dim=1)
    order = kl.masked_fill(mask == 0, -torch.inf).argsort(dim=1, descending=True, stable=True)
    kept = order.argsort(dim=1) < (lengths * args.visual_token_share - 1e-6).ceil()[:, None]
    dependency = (kl * mask).sum(dim=1) / lengths.clamp(min=1)
    return kept * trajectory_weights(dependency, moving, args.visual_advantage_min)[:, None]


def trajectory_weights(dependency: torch.Tensor, moving: torch.Tensor, least: float) -> torch.Tensor:
    """(N,) a_i of VPPO: 1 where `moving` is false, and where all depend alike; the mean over the others is 1.

    >>> trajectory_weights(torch.tensor([0.0, 1.0, 9.0]), torch.tensor([True, True, False]), 0.9)
    tensor([0.9000, 1.1000, 1.0000])
    """
    weights, compared = torch.ones_like(dependency), dependency[moving]
    if len(compared) < 2 or compared.max() - compared.min() <= 1e-6:
        return weights
    share = (compared - compared.min()) / (compared.max() - compared.min())
    weights[moving] = least + (1 - least) / share.mean() * share
    return weights


def mean_of_tokens(
    trainer: RolloutTrainer, values: torch.Tensor, mask: torch.Tensor, inputs: dict[str, Any]
) -> torch.Tensor:
    """() the values (N, C) of the tokens of a micro-batch as TRL's `_compute_loss` averages those of `--loss_type`."""
    steps, kind = trainer.current_gradient_accumulation_steps, trainer.loss_type
    totals, lengths = (values * mask).sum(dim=1), mask.sum(dim=1)
    if kind in ("grpo", "sapo"):
        return (totals / lengths.clamp(min=1)).mean() / steps
    if kind == "bnpo":
        return totals.sum() / lengths.sum().clamp(min=1) / steps
    if kind == "dr_grpo":
        return totals.sum() / (len(values) * trainer.max_completion_length) / steps
    if kind == "luspo":
        return totals.mean() / steps
    items = inputs["num_items_in_batch"].clamp(min=1) / trainer.accelerator.num_processes
    return totals.sum() / (items * steps / trainer.args.steps_per_generation)


def log_token_mean(trainer: RolloutTrainer, name: str, values: torch.Tensor, mask: torch.Tensor) -> None:
    """Log the mean over the tokens of all ranks; nothing where there are none."""
    total, count = trainer.accelerator.reduce(
        torch.stack([(values * mask).sum().float(), mask.sum().float()]), reduction="sum"
    ).tolist()
    if count:
        trainer._metrics["train"][name].append(total / count)
