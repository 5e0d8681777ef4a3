"""What the planner takes: an engine (who shards what) and one setting of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

FLOAT = 4
ADAMW = "adamw_torch_fused"  # what --optim is by default


@dataclass(frozen=True)
class Engine:
    """An engine: ZeRO's stage (0: DDP, or one process), its JSON file, what it offloads to the host's memory."""

    name: str
    stage: int
    file: str | None = None
    offload_optimizer: bool = False
    offload_weights: bool = False

    @property
    def deepspeed(self) -> bool:
        return self.stage > 0


ENGINES: dict[str, Engine] = {
    "none": Engine("none", 0),
    "zero1": Engine("zero1", 1, "local_scripts/zero1.json"),
    "zero2": Engine("zero2", 2, "local_scripts/zero2.json"),
    "zero3": Engine("zero3", 3, "local_scripts/zero3.json"),
    "zero2_offload": Engine("zero2_offload", 2, "local_scripts/zero2_offload.json", offload_optimizer=True),
    "zero3_offload": Engine(
        "zero3_offload", 3, "local_scripts/zero3_offload.json", offload_optimizer=True, offload_weights=True
    ),
}


def engine_of_section(zero: Mapping[str, Any], name: str = "deepspeed", file: str | None = None) -> Engine:
    """The engine of a DeepSpeed file's section `zero_optimization`.

    >>> engine_of_section({"stage": 2, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "none"}})
    Engine(name='deepspeed', stage=2, file=None, offload_optimizer=True, offload_weights=False)
    """
    targets = [zero.get(f"offload_{part}") or {} for part in ("optimizer", "param")]
    return Engine(name, int(zero.get("stage", 0)), file, *(t.get("device", "none") != "none" for t in targets))


@dataclass(frozen=True)
class PlannedRun:
    """One setting of a run: all that memory depends on beside the model; a number has 2 (bfloat16) or 4 bytes."""

    prompt_tokens: int  # images included
    patches_per_prompt: int  # of the vision tower
    completion_tokens: int
    group_size: int  # completions of a prompt
    batch_completions: int  # of a device's forward pass: whole groups
    accumulation_steps: int = 1  # of the gradient; a generation is so many batches
    tokens_per_forward: int | None = None  # of a pass over a part of a batch; None: over all of it
    gpus: int = 1
    nodes: int = 1
    engine: Engine = ENGINES["none"]
    bytes_per_weight: int = FLOAT
    bytes_per_computed_number: int = 2  # 2 with float32 weights: autocast
    autocast: bool = True  # else each operation computes in its weights' type
    gradient_checkpointing: bool = True
    reference_model: bool = False
    lora_r: int = 0  # rank of the adapters; 0: the model itself is trained
    four_bit: bool = False  # the base model under adapters
    nested_scales: bool = False  # those of 4-bit weights, in 8 bits
    freeze_vision: bool = False
    optim: str = ADAMW
    gather_for_rollouts: bool = True  # ZeRO-3 gathers all weights for rollouts with transformers
    vllm_mode: str | None = None  # None, "colocate" or "server"
    vllm_memory_share: float = 0.3  # of a device
    vllm_sleep_mode: bool = False  # vLLM frees the device between rollouts
    tools: bool = False  # rows that call one keep their keys and values until it has answered
    patches_per_completion: int = 0  # of the pictures that tools give to it, at most
    device: str = "cuda"
    device_bytes: float = 0.0

    @property
    def batch_groups(self) -> int:
        """Groups of a device's forward pass."""
        return self.batch_completions // self.group_size

    @property
    def by_autocast(self) -> bool:
        """Whether autocast casts what operations take; DeepSpeed's engine does without."""
        return self.autocast and not self.engine.deepspeed

    @property
    def flash(self) -> bool:
        """Whether attention is torch's flash kernel."""
        return self.device == "cuda" and self.bytes_per_computed_number == 2

    @property
    def refuses_zero3(self) -> bool:
        """Whether weights stay whole (4-bit ones), or ranks have different numbers of passes."""
        return self.four_bit or self.tokens_per_forward is not None

    @property
    def largest_part(self) -> "PlannedRun":
        """The run with the largest part of a batch that one pass computes, as `trainer.forward.parts` cuts it."""
        if self.tokens_per_forward is None:
            return self
        of_group = self.prompt_tokens + self.group_size * self.completion_tokens
        if groups := self.tokens_per_forward // of_group:
            return replace(self, batch_completions=min(groups, self.batch_groups) * self.group_size)
        rows = max(1, (self.tokens_per_forward - self.prompt_tokens) // self.completion_tokens)
        return replace(self, group_size=rows, batch_completions=rows)

    @property
    def packed_tokens(self) -> int:
        """Tokens of a packed batch: each prompt once but for its last token, and all completions."""
        return self.batch_groups * (self.prompt_tokens - 1) + self.batch_completions * self.completion_tokens

    @property
    def batch_patches(self) -> int:
        """Patches of a device's forward pass: each prompt's once, each completion's own."""
        return self.batch_groups * self.patches_per_prompt + self.batch_completions * self.patches_per_completion

    @property
    def generation_patches(self) -> int:
        """Patches of all prompts and completions that a device samples at once."""
        return self.batch_patches * self.accumulation_steps

    @property
    def generation_completions(self) -> int:
        """Completions that a device samples at once."""
        return self.batch_completions * self.accumulation_steps

    @property
    def generation_groups(self) -> int:
        """Groups, so prompts, that a device samples at once."""
        return self.generation_completions // self.group_size
