"""GRPO on `Record`s: TRL's trainer, with groups kept whole and pixels loaded late.

What differs from TRL 1.16, and why:
  - the dataset is row numbers; a row becomes a conversation with pixels just before its generation, each unique image
    decoded once, in threads (TRL's sampler yields a row G x steps_per_generation x num_iterations times);
  - micro-batches are made of whole groups (TRL shuffles rows, which scatters a group over micro-batches);
  - a micro-batch without any image does not call the vision tower (TRL hands it an empty tensor);
  - no token that stands for an image can be sampled (TRL bans one of the four).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from trl import GRPOTrainer
from trl.trainer.utils import (
    split_pixel_values_by_grid,
    split_tensor_dict,
    unsplit_pixel_values_by_grid,
)

from open_r1.arguments import GRPOArguments, TaskArguments
from open_r1.conversation import fill, messages
from open_r1.images import load_images
from open_r1.models import image_token_ids
from open_r1.records import Record
from open_r1.trainer.rollouts import Rollouts, plain_messages

Example = dict[str, Any]


class VLMGRPOTrainer(GRPOTrainer):
    """`records` and `eval_records` are anything indexable that gives `Record`s; `annotate` adds what rewards need.

    `instruction` is the task's prompt template with `{question}`; rewards are `open_r1.rewards.adapter.BatchReward`s.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        rewards: Sequence[Callable[..., list[float | None]]],
        records: Sequence[Record],
        eval_records: Sequence[Record] | None,
        instruction: str,
        annotate: Callable[[Record], Record],
        args: GRPOArguments,
        task: TaskArguments,
        callbacks: list[TrainerCallback] | None = None,
        peft_config: Any = None,
    ):
        self.records = {"train": records, "eval": eval_records}
        self.instruction, self.annotate, self.image_workers = instruction, annotate, task.image_workers
        banned = image_token_ids(model, processor)
        args.generation_kwargs = {"suppress_tokens": banned, **(args.generation_kwargs or {})}
        super().__init__(
            model=model,
            reward_funcs=list(rewards),
            args=args,
            train_dataset=row_numbers(records, "train"),
            eval_dataset=row_numbers(eval_records, "eval") if eval_records is not None else None,
            processing_class=processor,
            callbacks=callbacks,
            peft_config=peft_config,
        )
        self.rollouts = Rollouts(args.output_dir, task.rollout_groups, self.accelerator.process_index)

    def load_examples(self, inputs: list[dict[str, Any]]) -> list[Example]:
        """Row numbers -> conversations with pixels; equal rows share one example, equal images one decoded image."""
        rows = {(row["split"], row["row"]): None for row in inputs}
        records = [self.annotate(self.records[split][row]) for split, row in rows]
        pictures = load_images(records, workers=self.image_workers)
        examples = {
            key: {"prompt": fill(messages(record, self.instruction), images), "record": record, "pictures": images}
            for key, record, images in zip(rows, records, pictures, strict=True)
        }
        return [examples[row["split"], row["row"]] for row in inputs]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        examples = self.load_examples(inputs)
        output = super()._generate_and_score_completions(examples)
        prompts = self._logs["prompt"]  # as texts: wandb's tables refuse mixed parts, and pictures need not be kept
        self._logs["prompt"] = type(prompts)(map(plain_messages, prompts), maxlen=prompts.maxlen)
        if self.model.training:
            self.rollouts.add(self.state.global_step, examples, self._latest(len(inputs)), self.num_generations)
        return output

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Any, ...]:
        # TRL says None for a text row among image rows, which processors do not take; an empty list they do
        ids, images, fields = super()._tokenize_prompts(prompts)
        return ids, images and [row or [] for row in images], fields

    def _calculate_rewards(self, inputs: list[Example], *args: Any, **kwargs: Any) -> torch.Tensor:
        # named images only here: TRL would put a column of that name into the prompts a second time
        return super()._calculate_rewards([{**e, "images": e["pictures"]} for e in inputs], *args, **kwargs)

    def _latest(self, count: int) -> dict[str, Any]:
        """This rank's `count` newest completions with rewards and advantages; TRL logs those of all ranks in order."""
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index

        def mine(values: Any) -> list[Any]:
            return list(values)[-ranks * count :][rank * count : (rank + 1) * count]

        return {
            "completions": [c[0]["content"] for c in mine(self._logs["completion"])],
            "rewards": {
                name: [None if math.isnan(value) else value for value in mine(values)]  # NaN: does not apply
                for name, values in self._logs["rewards"].items()
            },
            "advantages": mine(self._logs["advantages"]),
        }

    def _prepare_inputs(self, generation_batch: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = split_pixel_values_by_grid(self._generate_and_score_completions(generation_batch))
            batch = permute_groups(batch, self.num_generations)
            self._buffered_inputs = [unsplit_pixel_values_by_grid(part) for part in split_tensor_dict(batch, steps)]
        return self._buffered_inputs[self._step % steps]

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, **kwargs: Any
    ) -> tuple[torch.Tensor | None, ...]:
        """TRL's, micro-batch by micro-batch, with the image arguments left out where a micro-batch has no image."""
        if kwargs.get("num_images") is None:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size=batch_size, **kwargs
            )
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        batch |= {k: kwargs.pop(k) for k in list(kwargs) if isinstance(kwargs[k], torch.Tensor | list)}
        batch, size = split_pixel_values_by_grid(batch), batch_size or len(input_ids)
        outputs = []
        for start in range(0, len(input_ids), size):
            part = unsplit_pixel_values_by_grid({key: value[start : start + size] for key, value in batch.items()})
            part = part if any(part["num_images"]) else without_images(part)
            outputs.append(
                super()._get_per_token_logps_and_entropies(model, logits_to_keep=logits_to_keep, **part, **kwargs)
            )
        logps, entropies, aux = zip(*outputs, strict=True)
        return (
            torch.cat(logps),
            torch.cat(entropies) if entropies[0] is not None else None,
            torch.stack(aux).mean() if aux[0] is not None else None,
        )


def row_numbers(records: Sequence[Record], split: str) -> Dataset:
    """A dataset of row numbers only: cheap to repeat, to shuffle and to send to workers."""
    return Dataset.from_dict({"row": range(len(records)), "split": [split] * len(records)})


def permute_groups(batch: dict[str, Any], group: int) -> dict[str, Any]:
    """Shuffle whole groups of `group` consecutive rows; tensors without a batch dimension stay.

    >>> _ = torch.manual_seed(0)
    >>> permute_groups({"x": torch.arange(6), "y": list("aabbcc"), "n": torch.tensor(6)}, group=2)
    {'x': tensor([4, 5, 0, 1, 2, 3]), 'y': ['c', 'c', 'a', 'a', 'b', 'b'], 'n': tensor(6)}
    """
    rows = len(next(v for v in batch.values() if isinstance(v, list) or (torch.is_tensor(v) and v.ndim)))
    order = torch.arange(rows).view(-1, group)[torch.randperm(rows // group)].flatten()

    def permute(value: Any) -> Any:
        if torch.is_tensor(value):
            return value[order.to(value.device)] if value.ndim else value
        return [value[i] for i in order.tolist()] if isinstance(value, list) else value

    return {key: permute(value) for key, value in batch.items()}


IMAGE_ARGUMENTS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "num_tiles",
    "pixel_attention_mask",
    "spatial_shapes",
    "image_sizes",
    "image_position_ids",
)


def without_images(part: dict[str, Any]) -> dict[str, Any]:
    """A micro-batch of text rows as a text model would get it."""
    return {key: value for key, value in part.items() if key not in IMAGE_ARGUMENTS}
