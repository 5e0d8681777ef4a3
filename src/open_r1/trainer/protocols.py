"""Types of the trainers as functions of this room use them: attributes of transformers, of TRL and of our mixins.

`RunTrainer` is what GRPO and SFT share, `RolloutTrainer` what only GRPO has. A test checks that both trainers have
these attributes. The names with a leading underscore are transformers' and TRL's own: `tests/contracts` checks them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    ProcessorMixin,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import CallbackHandler

from open_r1.trainer.lifecycle.preemption import StopSignals
from open_r1.trainer.lifecycle.watchdog import Watchdog


class RunTrainer(Protocol):
    """A trainer of any kind, while it trains, saves and ends."""

    # transformers'
    args: TrainingArguments
    model: PreTrainedModel
    model_wrapped: torch.nn.Module  # `model` inside DDP's, DeepSpeed's or FSDP's wrapper
    accelerator: Accelerator
    state: TrainerState
    control: TrainerControl
    callback_handler: CallbackHandler
    processing_class: ProcessorMixin
    is_deepspeed_enabled: bool
    is_fsdp_enabled: bool
    # TRL's
    aux_loss_enabled: bool
    router_aux_loss_coef: float
    # of lifecycle.hooks
    watch: Watchdog
    signals: StopSignals
    refuse_moved: Callable[[], None]
    # of checkpointing.resumable
    facts: dict[str, Any]
    changes: Sequence[str]
    new_prompts: bool
    first_step: int | None
    last_state: Any  # run_state.RunState or None
    last_state_step: int | None
    saved_step: int | None
    saved_folder: Path | None
    staging: Path | None


class RolloutTrainer(RunTrainer, Protocol):
    """A trainer that samples: TRL's GRPOTrainer with our `optimizations` and `loader`."""

    use_vllm: bool
    num_generations: int
    num_iterations: int
    max_completion_length: int
    temperature: float
    beta: float
    top_entropy_quantile: float
    eos_token_ids: Sequence[int]
    generation_config: GenerationConfig
    generation_kwargs: dict[str, Any]
    reward_func_names: Sequence[str]
    reward_weights: torch.Tensor
    ref_model: PreTrainedModel | None
    loader: Any  # rollout.prompt_loader.PromptLoader
    records: dict[str, Any]  # "train" and "eval" -> Sequence[Record]
    rollouts: Any  # outputs.rollout_log.RolloutLog
    engine: Any  # vllm_rollout.VLLMRollouts or None
    reward_funcs: Sequence[Callable[..., Any]]
    toolbox: Any  # tools.toolbox.Toolbox or None
    fields: Any  # rollout.processor_fields.PromptFields
    black_pixels: Any  # forward.patch_masks.Colors
    loss_type: str
    optimizations: Any  # forward.optimizations.Optimizations
    toolbox: Any  # tools.toolbox.Toolbox or None
    agreement_checked: bool
    packing_checked: bool
    banned_ids: Sequence[int]
    ahead: Any  # rollout_ahead.Ahead or None
    batch: Any  # generation_batch.GenerationBatch or None
    row_choice: Any  # row_choice.RowChoice
    new_batch: Callable[..., Any]
    prompts_on_device: Callable[..., Any]
    turns_again: Callable[..., Any]
    rewards_of: Callable[..., torch.Tensor]
    health: Any  # checks.health.Health
    _metrics: dict[str, dict[str, list[float]]]
    _logs: dict[str, Any]
    _pending_extra_logs: dict[str, list[Any]]
    _step: int
    _generate: Callable[..., Any]
    _entropy_bonus_enabled: bool
    _dist: Any
