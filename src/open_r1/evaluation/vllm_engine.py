"""The vLLM backend: completions by vLLM with the checkpoint's weights and this project's processor and pixel limits.

Prompts go in unexpanded, as in training, and vLLM's expanded ids are compared with those of our processor.
Under torchrun each rank has an engine of its own on its own GPU; `--tensor_parallel_size` spreads one over several.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import GenerationConfig, PreTrainedConfig, ProcessorMixin

from open_r1.errors import UsageError
from open_r1.evaluation.settings import EvaluationSettings
from open_r1.evaluation.tool_turns import Sampled, evaluated_toolbox, sampled_rollouts
from open_r1.models.banned_tokens import image_token_ids
from open_r1.models.generation_defaults import refuse_generation_config, tell_unused
from open_r1.models.lora import adapter_config
from open_r1.models.model_parts import end_tokens
from open_r1.models.weights import refuse_wrong_weights
from open_r1.rollout.prompt_loader import PromptLoader
from open_r1.rollout.prompts import Example
from open_r1.rollout.row_in_progress import Row
from open_r1.rollout.turns import TurnSampler
from open_r1.rollout.vllm.turn_requests import TurnRequests
from open_r1.rollout.vllm.types import GivenRequests, Request, RequestSource, SampledCompletion, Sampling

OF_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # variables


class VLLMEngine:
    """One engine. vLLM is imported in its constructor, after the environment is set.

    Raises UsageError, before a model is loaded, for what vLLM does not take: adapters, or `most_videos` of a row.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        processor: ProcessorMixin,
        loader: Callable[[Any], PromptLoader],
        local_rank: int | None = None,
        most_videos: int = 0,
    ):
        refuse_settings(settings)
        self.toolbox, self.processor = evaluated_toolbox(settings, processor), processor
        if self.toolbox is not None:
            self.toolbox.start()  # before CUDA starts
        leave_torchrun(local_rank)
        from open_r1.rollout.vllm import offline

        if settings.tensor_parallel_size == 1:
            offline.set_in_process_environment()
        from vllm import LLM

        self.loader = loader(None)
        videos = self.loader.fields.video_form == "native"
        if videos:
            flag, otherwise, trusted = "--backend vllm", "use another --backend", settings.trust_remote_code
            offline.refuse_unknown_videos(flag, otherwise, settings.model, most_videos, trust_remote_code=trusted)
        config = refuse_wrong_model(settings)
        self.ends = end_tokens(eos_token_ids(settings.model, config), processor)
        self.samples, self.sampling = settings.num_samples, evaluation_sampling(settings, self.ends, config, processor)
        with tempfile.TemporaryDirectory() as folder:
            link_checkpoint(settings.model, processor, Path(folder))
            with offline.own_configurations():
                self.llm = LLM(model=folder, **vllm_options(settings), **offline.common_options(config, videos))

    def answer(
        self, examples: Sequence[Example], seeds: Sequence[int], samples: int | None = None
    ) -> list[list[Sampled]]:
        """Each of the `samples` (default: the settings') of each example, token ids up to and with the end token; row
        i sampled with seeds[i].

        Raises EngineError for a prompt that differs from the trainer's.
        """
        count = samples or self.samples
        if self.toolbox is not None:
            return self._with_tools(examples, seeds, count)
        requests = [self.loader.request(e, count, seed) for e, seed in zip(examples, seeds, strict=True)]
        return [[Sampled(one.ids) for one in each] for each in self._generate(requests)]

    def _generate(self, requests: Sequence[Request]) -> list[list[SampledCompletion]]:
        given = GivenRequests(requests)
        self._answer(given)
        return given.completions

    def _answer(self, source: RequestSource) -> None:
        from open_r1.rollout.vllm.engine_loop import EngineLoop

        EngineLoop(self.llm, self.sampling).answer(source, lambda: None)

    def _with_tools(self, examples: Sequence[Example], seeds: Sequence[int], count: int) -> list[list[Sampled]]:
        """`count` completions with tools of each example."""
        each = [(example, seed + i) for example, seed in zip(examples, seeds, strict=True) for i in range(count)]

        def request(row: Row, number: int) -> Request:
            return self.loader.request(row.example, 1, each[number][1])

        sampler = TurnSampler(
            sample=lambda turns: self._answer(TurnRequests(turns, request, self.processor.tokenizer)),
            toolbox=self.toolbox,
            processor=self.processor,
            fields=self.loader.fields,
            template=self.loader.template,
            ends=self.ends,
            tokens=self.sampling.max_tokens,
            place=lambda turns: turns,
        )
        examples = [example for example, _ in each]
        sampled = sampled_rollouts(sampler.rollouts(examples, [example.prompt for example in examples]))
        return [sampled[start : start + count] for start in range(0, len(sampled), count)]


def refuse_settings(settings: EvaluationSettings) -> None:
    """Raises UsageError where vLLM is missing, and for an adapter."""
    if find_spec("vllm") is None:
        raise UsageError("--backend vllm: vLLM is not installed; run bash setup.sh --vllm, or use another --backend")
    if adapter_config(settings.model) is not None:
        raise UsageError(
            f"--backend vllm: got an adapter, expected a whole model; run python local_scripts/merge_lora.py "
            f"{settings.model} --out FOLDER and evaluate FOLDER, or use another --backend"
        )


def refuse_wrong_model(settings: EvaluationSettings) -> PreTrainedConfig:
    """The model's configuration. Raises UsageError for what `load_pretrained` refuses: vLLM may say nothing of it."""
    refuse_generation_config(settings.model)
    model = refuse_wrong_weights(settings.model, trust_remote_code=settings.trust_remote_code)
    tell_unused(model, settings.model)
    return model.config


def leave_torchrun(local_rank: int | None) -> None:
    """Make a rank of torchrun an independent process with one GPU: else vLLM makes all ranks parts of one engine."""
    if local_rank is None:
        return
    for name in OF_TORCHRUN:
        os.environ.pop(name, None)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[local_rank] if visible else str(local_rank)


def vllm_options(settings: EvaluationSettings) -> dict[str, Any]:
    """The arguments of vLLM's `LLM` that are settings of the evaluation."""
    return {
        "dtype": settings.dtype,
        "seed": settings.seed,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.batch_size,
        "trust_remote_code": settings.trust_remote_code,
    }


def eos_token_ids(model: str, config: Any) -> int | list[int] | None:
    """`eos_token_id` of the generation configuration that transformers would load."""
    try:
        return GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:  # a checkpoint without generation_config.json
        return config.get_text_config().eos_token_id


def evaluation_sampling(
    settings: EvaluationSettings, ends: Sequence[int], config: Any, processor: ProcessorMixin
) -> Sampling:
    """The sampling parameters of an evaluation."""
    return Sampling(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=settings.min_p,
        repetition_penalty=settings.repetition_penalty,
        max_tokens=settings.max_completion_length,
        stops=ends,
        banned=image_token_ids(config, processor),
        extra=settings.generation_kwargs,
    )


def link_checkpoint(model: str, processor: ProcessorMixin, folder: Path) -> None:
    """Fill a folder with this processor's files and links to the checkpoint's others."""
    source = Path(model) if Path(model).is_dir() else Path(snapshot_download(model))
    processor.save_pretrained(folder)
    for path in source.iterdir():
        if path.is_file() and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())
