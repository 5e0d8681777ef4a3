"""The transformers backend: completions by the rollouts of training (one prefill per prompt), greedy or sampled."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, ProcessorMixin

from open_r1.errors import UsageError
from open_r1.evaluation.settings import EvaluationSettings
from open_r1.evaluation.tool_turns import Sampled, evaluated_toolbox, sampled_rollouts
from open_r1.models.banned_tokens import image_token_ids
from open_r1.models.generation_defaults import flags_alone
from open_r1.models.loading import load_pretrained
from open_r1.models.model_parts import bare_model, end_tokens
from open_r1.models.quantization import recorded_four_bit
from open_r1.rollout.batching import merge_images, pad_prompts
from open_r1.rollout.generation import RowEnded, generate_groups, remaining_config, up_to_end
from open_r1.rollout.image_tokens import with_banned
from open_r1.rollout.kept_rows import Continuation
from open_r1.rollout.kept_turns import KeptTurns
from open_r1.rollout.prompt_cache import why_no_prefill
from open_r1.rollout.prompt_loader import PromptLoader
from open_r1.rollout.prompts import Example, Prompt
from open_r1.rollout.turns import TurnSampler


class TransformersEngine:
    """A model on one device, or distributed by accelerate over the GPUs of this process."""

    def __init__(
        self,
        settings: EvaluationSettings,
        processor: ProcessorMixin,
        loader: Callable[[Any], PromptLoader],
        local_rank: int | None = None,
    ):
        self.toolbox, self.processor = evaluated_toolbox(settings, processor), processor
        if self.toolbox is not None:
            self.toolbox.start()  # before CUDA starts
        self.model = load_evaluated_model(settings, local_rank)
        self.backbone = bare_model(self.model).base_model
        self.loader = loader(bare_model(self.model))
        self.ends = end_tokens(self.model.generation_config.eos_token_id, processor)
        self.config = generation_config(settings, processor, self.ends, image_token_ids(self.model.config, processor))
        self.samples = settings.num_samples
        no_prefill = why_no_prefill(bare_model(self.model), None)
        self.can_share_prefill = no_prefill is None
        if self.toolbox is not None and no_prefill:
            raise UsageError(f"--tools: got a model whose completions cannot go on behind an answer: {no_prefill}")

    @torch.inference_mode()
    def answer(
        self, examples: Sequence[Example], seeds: Sequence[int], samples: int | None = None, **options: Any
    ) -> list[list[Sampled]]:
        """Each of the `samples` (default: the settings') of each example, token ids up to and with
        the end token; sampled with the first seed. `options` go to `generate`.

        Raises UsageError where the GPU's memory does not suffice.
        """
        count = samples or self.samples
        torch.manual_seed(seeds[0])
        prompts = [e.prompt.to(self.model.device) for e in examples]
        prompts = [prompt for prompt in prompts for _ in range(count)]
        try:
            with flags_alone(self.model):
                completions = self._sampled([e for e in examples for _ in range(count)], prompts, **options)
        except torch.cuda.OutOfMemoryError as error:
            raise UsageError(
                f"--batch_size: got {len(prompts)} completions at once, expected fewer: the GPU's memory is full "
                f"({error}); start again with half of it, which goes on where this stopped"
            ) from error
        return [completions[start : start + count] for start in range(0, len(completions), count)]

    def _sampled(self, examples: list[Example], prompts: list[Prompt], **options: Any) -> list[Sampled]:
        if self.toolbox is None:
            return [Sampled(ids) for ids in self._generate(prompts, **options)]

        def sample(
            prompts: Sequence[Prompt],
            numbers: Sequence[int],
            most: int,
            tell: RowEnded,
            going_on: Sequence[Continuation],
        ) -> list[list[int]]:
            config = remaining_config(self.config, self.config.max_new_tokens - most)
            hooks = {**options, "tell": tell, "going_on": going_on}
            return generate_groups(self.model, self.backbone, prompts, config, self.ends, **hooks)

        sampler = TurnSampler(
            sample=KeptTurns(sample),
            toolbox=self.toolbox,
            processor=self.processor,
            fields=self.loader.fields,
            template=self.loader.template,
            ends=self.ends,
            tokens=self.config.max_new_tokens,
            place=lambda turns: turns.to(self.model.device),
        )
        return sampled_rollouts(sampler.rollouts(examples, prompts))

    def _generate(self, prompts: list[Prompt], **options: Any) -> list[list[int]]:
        if self.can_share_prefill:
            return generate_groups(self.model, self.backbone, prompts, self.config, self.ends, **options)
        inputs = pad_prompts(prompts, self.config.pad_token_id) | merge_images(prompts, packed=False)
        out = self.model.generate(**inputs, generation_config=self.config, **options)
        return [up_to_end(row, self.ends) for row in out[:, inputs["input_ids"].shape[1] :].tolist()]


def load_evaluated_model(settings: EvaluationSettings, local_rank: int | None) -> PreTrainedModel | PeftModel:
    """The model, or the adapter around its base model, rounded as in training, in evaluation mode.

    Under torchrun it is on the rank's own GPU.
    """
    device = settings.device
    if device == "auto" and local_rank is not None:
        device = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    model = load_pretrained(
        settings.model,
        four_bit=recorded_four_bit(settings.model),
        dtype=settings.dtype,
        device_map=device,
        attn_implementation=settings.attn_implementation,
        trust_remote_code=settings.trust_remote_code,
    )
    return model.eval()


def generation_config(
    settings: EvaluationSettings, processor: ProcessorMixin, ends: list[int], banned: list[int]
) -> GenerationConfig:
    """The generation configuration of the flags; `answer` lets nothing else of the checkpoint's act but its tokens."""
    sampling = {name: getattr(settings, name) for name in ("temperature", "top_p", "top_k", "min_p")}
    return GenerationConfig(
        max_new_tokens=settings.max_completion_length,
        do_sample=settings.temperature > 0,
        **(sampling if settings.temperature > 0 else {}),
        repetition_penalty=settings.repetition_penalty,
        pad_token_id=processor.tokenizer.pad_token_id,
        eos_token_id=ends,
        disable_compile=True,
        **with_banned(settings.generation_kwargs, banned),
    )
