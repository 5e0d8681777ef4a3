"""Fits parsed flags to the machine and the launcher: precision, device, process group and DeepSpeed."""

import os

from accelerate import PartialState
from accelerate.utils import is_cuda_available  # leaves CUDA uninitialised: rewards start their workers first

from open_r1.config.deepspeed import check_engine_config, skip_inference_build
from open_r1.config.optimizer import check_optimizer
from open_r1.config.remote_code import load_weights_only
from open_r1.config.training_arguments import RunArguments


def prepare(training: RunArguments) -> None:
    """Fit parsed arguments to this machine and start its process group; called once, after they are checked.

    bf16 only on CUDA unless it was set; torch's own timeout is raised above the watchdog's; ranks on a machine without
    accelerators use gloo. Writes into the environment, which DeepSpeed and accelerate read.

    Raises ValueError for DeepSpeed without a launcher or with a key that it would ignore, for FSDP on the CPU, for a
    --hang_timeout that is no number of seconds, a GPU's precision without one, an optimizer that cannot act as set,
    and what transformers and TRL refuse.
    """
    if not 0 <= training.hang_timeout < float("inf"):
        raise ValueError(f"--hang_timeout: got {training.hang_timeout}, expected seconds, or 0 for never")
    if training.bf16 is None and not training.fp16:
        training.bf16 = is_cuda_available() and not training.use_cpu
    training.fsdp = {"true": True, "false": None}.get(str(training.fsdp).lower(), training.fsdp)
    training.ddp_timeout = max(training.ddp_timeout, int(training.hang_timeout) + 300)  # the watchdog acts first
    # without it torchrun's ranks on a machine without accelerators would train apart, into one folder
    training.use_cpu |= int(os.environ.get("WORLD_SIZE", "1")) > 1 and not _has_accelerator()
    refuse_gpu_flags(training)
    training.dataloader_pin_memory &= is_cuda_available()  # torch warns where it cannot act
    if training.deepspeed:
        _prepare_deepspeed(training)
    if training.fsdp:
        _refuse_fsdp_on_cpu(training)
    training.complete()
    check_optimizer(training)


def refuse_gpu_flags(training: RunArguments) -> None:
    """Raises ValueError for precisions of a GPU on a machine without one, and on the CPU where it has them not."""
    if is_cuda_available() or _has_accelerator():
        return
    for name in ("fp16", "tf32") + (() if training.use_cpu else ("bf16",)):
        if getattr(training, name):
            raise ValueError(
                f"--{name}: got true, and no GPU is seen here, expected one; leave it out to train on the CPU in "
                "float32, or try a recipe in small: SMOKE=1 bash run_scripts/run_grpo_rec.sh"
            )


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


def _refuse_fsdp_on_cpu(training: RunArguments) -> None:
    """Raises ValueError for FSDP on the CPU, where accelerate 1.15 runs DDP in its place without a word."""
    if training.use_cpu or not is_cuda_available():
        raise ValueError(
            "--fsdp: got true on the CPU, expected CUDA devices: accelerate would run DDP instead, each rank with all "
            "weights; use --deepspeed local_scripts/zero3.json, which shards on the CPU too, or leave --fsdp out"
        )


def _prepare_deepspeed(training: RunArguments) -> None:
    """Check DeepSpeed's file and, without CUDA, start gloo, which transformers leaves out. Raises ValueError without a
    launcher, which DeepSpeed needs."""
    if "LOCAL_RANK" not in os.environ:
        raise ValueError(
            "--deepspeed: got a script started by python, expected torchrun, which places the ranks; start it by "
            "torchrun --nproc_per_node N, or leave --deepspeed out"
        )
    on_cpu = training.use_cpu or not is_cuda_available()
    if on_cpu:
        os.environ |= {"DS_ACCELERATOR": "cpu", "ACCELERATE_USE_DEEPSPEED": "true"}
    check_engine_config(training.deepspeed)  # the first to import DeepSpeed
    load_weights_only()
    if on_cpu:
        skip_inference_build()
        PartialState(backend="gloo")
        training.use_cpu, training.accelerator_config = False, {"use_configured_state": True}
