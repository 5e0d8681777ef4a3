"""Completions by vLLM, which reads the checkpoint's weights itself and is given our processor with its pixel limits.

Prompts go in unexpanded, as in training, and what vLLM made of each is compared with what our processor makes.
Under torchrun each rank has an engine of its own on its own GPU; `--tensor_parallel_size` spreads one over several.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import AutoConfig, GenerationConfig, ProcessorMixin

from open_r1.errors import UsageError
from open_r1.evaluation.settings import EvaluationSettings
from open_r1.models.families import end_tokens, image_token_ids
from open_r1.models.lora import adapter_config
from open_r1.rollout.prompts import Example, PromptLoader
from open_r1.rollout.vllm.types import Sampling, check_prompt


class VLLM:
    """One engine; nothing of vLLM is imported before it is made, as its environment must be there first."""

    def __init__(
        self,
        settings: EvaluationSettings,
        processor: ProcessorMixin,
        loader: Callable[[Any], PromptLoader],
        local_rank: int | None = None,
    ):
        refuse_settings(settings)
        leave_torchrun(local_rank)
        from open_r1.rollout.vllm.offline import common_options, set_in_process_environment

        if settings.tensor_parallel_size == 1:
            set_in_process_environment()
        from vllm import LLM

        config = AutoConfig.from_pretrained(settings.model, trust_remote_code=settings.trust_remote_code)
        self.loader, self.ends = loader(None), end_tokens(declared_ends(settings.model, config), processor)
        self.samples, self.sampling = settings.num_samples, evaluation_sampling(settings, self.ends, config, processor)
        with tempfile.TemporaryDirectory() as folder:
            link_checkpoint(settings.model, processor, Path(folder))
            self.llm = LLM(model=folder, **vllm_options(settings), **common_options(config))

    def answer(self, examples: Sequence[Example], seeds: Sequence[int]) -> list[list[list[int]]]:
        """Token ids (C,) of each sample of each example, up to and with the end token; row i drawn with seeds[i].

        Raises EngineError for a prompt that vLLM read otherwise than the trainer would.
        """
        from open_r1.rollout.vllm.offline import sampling_params, vllm_prompt

        requests = [self.loader.request(e, self.samples, seed) for e, seed in zip(examples, seeds, strict=True)]
        params = [sampling_params(self.sampling, request) for request in requests]
        outputs = self.llm.generate([vllm_prompt(request) for request in requests], params, use_tqdm=False)
        for request, output in zip(requests, outputs, strict=True):
            check_prompt(request, output.prompt_token_ids)
        return [[list(c.token_ids) for c in sorted(output.outputs, key=lambda c: c.index)] for output in outputs]


def refuse_settings(settings: EvaluationSettings) -> None:
    """Raises UsageError for what this backend cannot do."""
    if find_spec("vllm") is None:
        raise UsageError("--backend vllm: vLLM is not installed; run bash setup.sh --vllm, or use --backend hf")
    if adapter_config(settings.model) is not None:
        raise UsageError(
            f"--backend vllm: got an adapter, expected a whole model; run python local_scripts/merge_lora.py "
            f"{settings.model} --out FOLDER and evaluate FOLDER, or use --backend hf"
        )


def leave_torchrun(local_rank: int | None) -> None:
    """A rank of torchrun as a process of its own with one GPU: vLLM would take the ranks for parts of one engine."""
    if local_rank is None:
        return
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[local_rank] if visible else str(local_rank)


def vllm_options(settings: EvaluationSettings) -> dict[str, Any]:
    return {
        "dtype": settings.dtype,
        "seed": settings.seed,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.batch_size,
        "trust_remote_code": settings.trust_remote_code,
    }


def declared_ends(model: str, config: Any) -> int | list[int] | None:
    """What transformers would read into a loaded model's generation configuration."""
    try:
        return GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:  # a checkpoint without generation_config.json
        return config.get_text_config().eos_token_id


def evaluation_sampling(
    settings: EvaluationSettings, ends: Sequence[int], config: Any, processor: ProcessorMixin
) -> Sampling:
    return Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=None,
        repetition_penalty=1.0,
        max_tokens=settings.max_completion_length,
        stops=ends,
        banned=image_token_ids(config, processor),
    )


def link_checkpoint(model: str, processor: ProcessorMixin, folder: Path) -> None:
    """A folder of the checkpoint's files by links, and of this processor's own files."""
    source = Path(model) if Path(model).is_dir() else Path(snapshot_download(model))
    processor.save_pretrained(folder)
    for path in source.iterdir():
        if path.is_file() and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())
