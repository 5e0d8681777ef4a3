"""The flags of vLLM and of rollouts ahead: refused where they could not act."""

from importlib.util import find_spec

from accelerate.utils import is_cuda_available

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.training_arguments import GRPOArguments

MOST_VLLM_RANK = 512  # of an adapter in vLLM 0.31


def check_vllm(training: GRPOArguments) -> None:
    """Refuse vLLM flags that could not act. Raises ValueError with what to do."""
    if find_spec("vllm") is None:
        raise ValueError("--use_vllm: got true, but vLLM is not installed; run bash setup.sh --vllm, or leave it out")
    if training.vllm_enable_sleep_mode and not is_cuda_available():
        raise ValueError("--vllm_enable_sleep_mode: got true, but vLLM sleeps on CUDA devices alone; remove it")
    if training.vllm_mode == "server" and (training.vllm_enable_sleep_mode or training.vllm_tensor_parallel_size > 1):
        raise ValueError(
            "--vllm_enable_sleep_mode, --vllm_tensor_parallel_size: act with --vllm_mode colocate only; give the "
            "server's own to run_scripts/vllm_server.sh"
        )
    if training.fsdp:
        raise ValueError("--use_vllm: got --fsdp, expected --deepspeed, whose weights vLLM is given; use DeepSpeed")
    mode = training.vllm_importance_sampling_mode
    if training.loss_type == "vespo" and training.vllm_importance_sampling_correction and "token" not in mode:
        raise ValueError(f"--vllm_importance_sampling_mode: got {mode}, expected a token_ mode with --loss_type vespo")


def check_adapter_sync(training: GRPOArguments, model: VLMConfig) -> None:
    """Refuse adapters that vLLM's LoRA cannot hold, where they alone are sent. Raises ValueError."""
    if training.vllm_lora_sync != "adapter":
        return
    instead = "leave one out: --vllm_lora_sync merged sends all weights"
    for name in ("lora_vision", "use_dora", "lora_modules_to_save", "lora_target_parameters"):
        if getattr(model, name):
            raise ValueError(f"--vllm_lora_sync, --{name}: got adapter and what vLLM's adapters have not; {instead}")
    if model.lora_r > MOST_VLLM_RANK:
        raise ValueError(
            f"--vllm_lora_sync, --lora_r: got adapter and {model.lora_r}, expected at most "
            f"{MOST_VLLM_RANK}, vLLM's largest rank; {instead}"
        )
    if is_cuda_available() and not training.use_cpu and training.bf16 is False and not training.fp16:
        raise ValueError(
            f"--vllm_lora_sync, --bf16: got adapter and float32, for which vLLM has no kernel on CUDA; {instead}"
        )


def check_rollout_ahead(training: GRPOArguments) -> None:
    """Refuse rollouts ahead where they could not overlap with learning, or are not corrected. Raises ValueError."""
    if not training.rollout_ahead:
        return
    if training.vllm_mode != "server":
        raise ValueError(
            "--rollout_ahead: got 1 with --vllm_mode colocate, whose engine shares its devices with the policy that "
            "learns, expected --vllm_mode server on others; start run_scripts/vllm_server.sh, or leave it out"
        )
    if not training.vllm_importance_sampling_correction:
        raise ValueError(
            "--rollout_ahead: got 1 without --vllm_importance_sampling_correction, which corrects for "
            "completions of the step before; remove one of the two"
        )
    if training.dataloader_num_workers:
        raise ValueError(
            "--rollout_ahead, --dataloader_num_workers: got both, but the next rows are known in the run's own "
            "process alone; leave --dataloader_num_workers out"
        )
    steps = training.steps_per_generation or training.gradient_accumulation_steps
    if training.generation_batch_size or training.num_iterations * steps != training.gradient_accumulation_steps:
        raise ValueError(
            "--rollout_ahead: got 1, expected one generation a step; leave --steps_per_generation, "
            "--generation_batch_size and --num_iterations out"
        )
