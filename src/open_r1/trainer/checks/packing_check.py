"""Checks once, before the first rollout, that completions of a packed group do not see each other.

`trainer.forward.token_mixing` refuses layers that would mix them; this looks at the run's own model, engine and
precision: two completions of four tokens behind up to 16 text tokens of the first prompt, once as they are and once
with each of them changed. Three passes over 24 tokens, without pictures: less than a second for 3B on a GPU.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from trl.models.utils import disable_gradient_checkpointing

from open_r1.errors import RunEnded
from open_r1.models.model_parts import bare_model
from open_r1.rollout.prompts import Prompt
from open_r1.trainer.forward.log_probs import computation_bytes
from open_r1.trainer.protocols import RolloutTrainer

PROMPT_TOKENS, COMPLETION_TOKENS = 16, 4
# bytes of a number in the computation -> |difference| in nats; experts, which compute together, round otherwise
MAX_CHANGE_BY_BYTES = {4: 1e-3, 2: 0.1}


class MixedCompletions(RunEnded):
    """A completion of a packed group changes the log-probs of another."""


def check_packing(trainer: RolloutTrainer, prompts: Sequence[Prompt]) -> float | None:
    """The largest change, in nats, of the log-probs of a completion when another one is changed, on all ranks.

    None where groups are not packed, with `--check_packing false`, and after the first call of a process. Raises
    MixedCompletions, on all ranks.
    """
    if trainer.packing_checked or not (trainer.args.check_packing and trainer.optimizations["shared_prefix"]):
        return None
    trainer.packing_checked = True
    change = trainer.accelerator.gather(change_of_others(trainer, text_prompt(prompts[0], trainer.banned_ids))).max()
    limit = MAX_CHANGE_BY_BYTES[computation_bytes(trainer)]
    if not change <= limit:
        model = type(bare_model(trainer.accelerator.unwrap_model(trainer.model))).__name__
        raise MixedCompletions(
            f"--shared_prefix true: got log-probs that move by {float(change):.3g} nats when another completion of "
            f"their group is changed, expected at most {limit:g}: a layer of {model} mixes completions; start with "
            "--shared_prefix false"
        )
    return float(change)


def text_prompt(prompt: Prompt, image_tokens: Sequence[int]) -> Prompt:
    """The last text tokens of a prompt as a prompt without pictures."""
    is_text = ~torch.isin(prompt.ids, torch.tensor(image_tokens, device=prompt.ids.device))
    kept = is_text.nonzero()[-PROMPT_TOKENS:, 0]
    positions = torch.arange(len(kept), device=kept.device).expand(*prompt.positions.shape[:-1], -1)
    types = {name: torch.zeros_like(values[kept]) for name, values in prompt.types.items()}
    return replace(prompt, ids=prompt.ids[kept], positions=positions, types=types, images={}, features=None)


def change_of_others(trainer: RolloutTrainer, prompt: Prompt) -> torch.Tensor:
    """(1,) the largest |difference| of a completion's log-probs, in nats, when the other completion is changed."""
    words, places = prompt.ids.unique(), torch.arange(COMPLETION_TOKENS, device=prompt.ids.device)
    first, other = (words[(places + shift) % len(words)] for shift in (0, 1))

    def logps(*completions: torch.Tensor) -> torch.Tensor:
        batch = ([prompt, prompt], torch.stack(completions), [COMPLETION_TOKENS] * 2)
        return trainer.score_completions(trainer.model, *batch).logps

    with torch.no_grad(), disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs):
        before, after_second, after_first = logps(first, first), logps(first, other), logps(other, first)
    changes = torch.stack([after_second[0] - before[0], after_first[1] - before[1]]).abs()
    return changes.float().nan_to_num(nan=float("inf")).max()[None]
