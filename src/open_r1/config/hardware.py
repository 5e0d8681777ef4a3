"""What of a run depends on the machine and the launcher that started it: precision, device, and the engine's place."""

import os

import torch
from accelerate import PartialState
from transformers import TrainingArguments

from open_r1.config.deepspeed import check_engine_config, skip_inference_build
from open_r1.config.remote_code import refuse_code


def fit_machine(training: TrainingArguments) -> None:
    """Settings that depend on where a run is started: bf16 only on CUDA unless asked for, and the engine's place.

    Raises ValueError for DeepSpeed without a launcher or with a key that it would ignore, for FSDP on the CPU, and for
    a timeout that is none.
    """
    if not 0 <= training.hang_timeout < float("inf"):
        raise ValueError(f"--hang_timeout: got {training.hang_timeout}, expected seconds, or 0 for never")
    if training.bf16 is None and not training.fp16:
        training.bf16 = torch.cuda.is_available() and not training.use_cpu
    training.fsdp = {"true": True, "false": None}.get(str(training.fsdp).lower(), training.fsdp)
    training.ddp_timeout = max(training.ddp_timeout, int(training.hang_timeout) + 300)  # the watchdog is first
    # without it torchrun's ranks on a machine without accelerators would train apart, into one folder
    training.use_cpu |= int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()
    training.dataloader_pin_memory &= torch.cuda.is_available()  # torch warns where it cannot act
    if training.deepspeed:
        _place_deepspeed(training)
    if training.fsdp:
        _place_fsdp(training)


def _place_fsdp(training: TrainingArguments) -> None:
    """accelerate 1.15 shards on accelerators only: asked for FSDP on the CPU it runs DDP without a word."""
    if training.use_cpu or not torch.cuda.is_available():
        raise ValueError(
            "--fsdp: got true on the CPU, expected CUDA devices: accelerate would run DDP instead, each rank with all "
            "weights; use --deepspeed local_scripts/zero3.json, which shards on the CPU too, or leave --fsdp out"
        )


def _place_deepspeed(training: TrainingArguments) -> None:
    """DeepSpeed needs a launcher; without CUDA it runs over gloo, which transformers does not set up itself."""
    if "LOCAL_RANK" not in os.environ:
        raise ValueError(
            "--deepspeed: got a script started by python, expected torchrun, which places the ranks; start it by "
            "torchrun --nproc_per_node N, or leave --deepspeed out"
        )
    on_cpu = training.use_cpu or not torch.cuda.is_available()
    if on_cpu:
        os.environ |= {"DS_ACCELERATOR": "cpu", "ACCELERATE_USE_DEEPSPEED": "true"}
    check_engine_config(training.deepspeed)  # the first to import DeepSpeed
    refuse_code()
    if on_cpu:
        skip_inference_build()
        PartialState(backend="gloo")
        training.use_cpu, training.accelerator_config = False, {"use_configured_state": True}
