"""What a plan is of: an engine that shards, and one setting of a run."""

from dataclasses import dataclass

FLOAT = 4


@dataclass(frozen=True)
class Engine:
    """Who shards what: ZeRO's stage (0: DDP, or one process), what lies in the host's memory, its JSON file."""

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


@dataclass(frozen=True)
class PlannedRun:
    """One setting, all that memory depends on beside the model; bytes of a number are 2 (bfloat16) or 4 (float32)."""

    prompt: int  # tokens, images included
    patches: int  # vision patches of a row
    completion: int
    group: int
    batch: int  # completions of a device's forward pass: whole groups
    steps: int = 1  # gradient accumulation; a generation is so many batches
    gpus: int = 1
    nodes: int = 1
    engine: Engine = ENGINES["none"]
    weights: int = FLOAT  # bytes of a weight
    compute: int = 2  # bytes of a computed number (2 with float32 weights: autocast)
    checkpointing: bool = True
    reference: bool = False
    lora_r: int = 0
    freeze_vision: bool = False
    gather: bool = True  # ZeRO-3 gathers all weights for rollouts with transformers
    vllm: str | None = None  # None, "colocate" or "server"
    vllm_share: float = 0.3  # of a device
    vllm_sleep: bool = False  # vLLM leaves the device between rollouts
    device: str = "cuda"
    device_bytes: float = 0.0

    @property
    def rows(self) -> int:
        """Completions that a device samples at once."""
        return self.batch * self.steps
