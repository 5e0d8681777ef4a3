"""GRPO on `Record`s: TRL's trainer, computing a group's prompt and images once.

What differs from TRL 1.16, and why:
  - the dataset is row numbers; a row becomes a `Prompt` in background workers just before its generation, once (TRL's
    sampler yields a row G x steps_per_generation x num_iterations times, and processes its images twice each time);
  - rollout, old, reference and policy passes compute a group's prompt once (`generation`, `shared_prefix`);
  - micro-batches are made of whole groups (TRL shuffles rows, which scatters a group over micro-batches);
  - completions that cannot move the policy are not computed, nor log-probs of the old policy where it is the policy;
  - no token that stands for an image can be sampled (TRL bans one of the four);
  - vLLM is started and asked by `engine` (TRL's colocated engine is given expanded prompts, which it expands again);
  - a run that was stopped continues exactly (`resume`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from trl import GRPOTrainer
from trl.extras.profiling import profiling_context
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import split_tensor_dict

from open_r1.config.arguments import GRPOArguments, TaskArguments
from open_r1.data.chat import messages, with_images
from open_r1.data.jsonl_dataset import Record
from open_r1.models.families import bare_model, image_token_ids
from open_r1.rewards.trl_adapter import lost_gradings
from open_r1.rollout.batching import groups_of, merge_images, permute_groups
from open_r1.rollout.image_tokens import refuse_drawn
from open_r1.rollout.prompts import Example, Prompt, PromptLoader, RowNumber, row_numbers
from open_r1.rollout.vision_features import with_features
from open_r1.trainer.checkpointing.resumable import EpochSampler, Resumable
from open_r1.trainer.checks.health import Health
from open_r1.trainer.checks.nonfinite import Finite
from open_r1.trainer.checks.weight_updates import WeightUpdates
from open_r1.trainer.distributed import CollectiveReward, on_all_ranks
from open_r1.trainer.forward.dummy_image import share_vision
from open_r1.trainer.forward.log_probs import Scored, in_parts, score
from open_r1.trainer.forward.optimizations import optimizations_of, with_signal
from open_r1.trainer.forward.shared_prefix import share_prefixes
from open_r1.trainer.lifecycle.hooks import LifecycleHooks
from open_r1.trainer.outputs.completion_stats import log_parse_rate, read
from open_r1.trainer.outputs.hub import Published
from open_r1.trainer.outputs.rollout_log import Rollouts, newest_completions
from open_r1.trainer.transformers_rollout import transformers_rollout
from open_r1.trainer.vllm_rollout import EngineRollouts


class VLMGRPOTrainer(Finite, LifecycleHooks, Resumable, Published, GRPOTrainer):
    """`records` and `eval_records` are anything indexable that gives `Record`s; `annotate` adds what rewards need.

    `instruction` is the task's prompt template with `{question}`; rewards are `rewards.trl_adapter.BatchReward`s.
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
        self.records, self.instruction = {"train": records, "eval": eval_records}, instruction
        self.banned = banned = image_token_ids(model.config, processor)
        use_vllm, args.use_vllm = args.use_vllm, False  # TRL would start an engine that expands images twice
        if not use_vllm:
            args.generation_kwargs = {"suppress_tokens": banned, **(args.generation_kwargs or {})}
        super().__init__(
            model=model,
            reward_funcs=[CollectiveReward(reward) for reward in rewards],
            args=args,
            train_dataset=row_numbers(records, "train"),
            eval_dataset=row_numbers(eval_records, "eval") if eval_records is not None else None,
            processing_class=processor,
            callbacks=callbacks,
            peft_config=peft_config,
        )
        self.use_vllm = args.use_vllm = use_vllm
        self.health = Health(args.output_dir, args.stop_on)
        self.add_callback(self.health)
        self.add_callback(WeightUpdates(self))
        self.graded = not task.reward_funcs or "accuracy" in task.reward_funcs
        rank = self.accelerator.process_index
        self.rollouts = Rollouts(args.output_dir, task.rollout_groups, rank, task.rollouts_to_keep, self.graded)
        self.savings = optimizations_of(self, bare_model(self.model))
        if self.savings["shared_prefix"]:
            for shared in filter(None, (self.model, self.ref_model)):
                share_prefixes(bare_model(self.accelerator.unwrap_model(shared)))
        share_vision(self)
        self.loader = PromptLoader(
            record_of=lambda row: annotate(self.records[row["split"]][row["row"]]),
            conversation=lambda record, pictures: with_images(messages(record, instruction), pictures),
            processor=processor,
            rope=getattr(bare_model(self.model).base_model, "get_rope_index", None),
            workers=task.image_workers,
            template={"chat_template": self.chat_template, **self.chat_template_kwargs},
        )
        self.data_collator = self.loader.want
        self._old_pass_due = False  # TRL is about to ask for old log-probs that are not needed
        self._updates_seen, self._micro_steps = -1, 0
        self.agreed = False  # the first rollout was held against the trainer's own pass
        self.engine = EngineRollouts(self, banned) if use_vllm else None

    # ------------------------------------------------------------------------------------------------- generation

    def _generate_and_score_completions(self, inputs: list[RowNumber]) -> dict[str, Any]:
        with self.watch.phase("data"):
            examples = on_all_ranks(lambda: self.loader.take(inputs))
        self._examples, self._prompts = examples, self._on_device(examples)
        generate_every = self.args.steps_per_generation * self.num_iterations
        misaligned = self.args.gradient_accumulation_steps % generate_every != 0
        self._old_pass_due = misaligned and not self.use_vllm and self.savings["reuse_old_logps"]
        output = super()._generate_and_score_completions([example.columns() for example in examples])
        output["prompts"] = self._prompts
        if self.engine is not None:
            self.engine.check(self._metrics["train" if self.model.training else "eval"])
        if self.log_completions and self.log_multimodal:
            self._logs["images"].extend(gather_object([example.pictures for example in examples]))
        if self.model.training:
            scored = newest_completions(self, len(inputs)) | self._read
            self.rollouts.add(self.state.global_step, examples, scored, self.num_generations)
        return output

    def _on_device(self, examples: list[Example]) -> list[Prompt]:
        """One Prompt a row, equal rows sharing theirs."""
        unique = {id(example.prompt): example.prompt for example in examples}
        unique = {key: prompt.to(self.accelerator.device) for key, prompt in unique.items()}
        if self.savings["reuse_vision_features"]:
            with self.accelerator.autocast():
                unique = {key: with_features(self._backbone(self.model), prompt) for key, prompt in unique.items()}
        return [unique[id(example.prompt)] for example in examples]

    def _backbone(self, model: torch.nn.Module) -> PreTrainedModel:
        """The VLM without its head, out of what engine and adapters wrap around it."""
        return bare_model(self.accelerator.unwrap_model(model)).base_model

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Any, ...]:
        heads, group = groups_of(self._prompts)
        ids = [prompt.ids.tolist() for prompt in heads]
        return [ids[number] for number in group], None, {}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        with self.watch.phase("rollout"):
            drawn = self._completions(*args, **kwargs)
        self.signals.check(self)  # one that was broken off ends here
        self.refuse_image_tokens(drawn[0])
        return drawn

    def refuse_image_tokens(self, ids: list[list[int]]) -> None:
        """Raises ImageDrawn, on all ranks, where a completion of any holds one."""
        records, engine = [example.record for example in self._examples], "vLLM" if self.use_vllm else "transformers"
        on_all_ranks(lambda: refuse_drawn(records, ids, self.banned, engine))

    def _completions(self, prompt_ids: Any, images: Any, fields: Any, *args: Any, **kwargs: Any) -> Any:
        if self.engine is not None:
            with profiling_context(self, "vLLM.generate"):
                return self.engine.rollout(self._examples, self._step)
        if not self.savings["prefill_once"]:
            types = {name: [p.types[name].tolist() for p in self._prompts] for name in self._prompts[0].types}
            fields = merge_images(self._prompts, packed=False) | types
            return super()._generate_single_turn(prompt_ids, images, fields, *args, **kwargs)
        return transformers_rollout(self), None

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], ids: list[list[int]]
    ) -> torch.Tensor:
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        self._read = read([e["record"] for e in inputs], completions, ids, ends, self.graded)
        log_parse_rate(self, self._read["parsed"])
        # named images only here: TRL would put a column of that name into the prompts a second time
        with_images = [{**e, "images": e["pictures"]} for e in inputs]
        with self.watch.phase("reward"):
            rewards = super()._calculate_rewards(with_images, prompts, completions, ids)
        for name, count in lost_gradings().items():
            self._log_metric(name, count)
        return rewards

    # --------------------------------------------------------------------------------------------------- training

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        return EpochSampler.like(super()._get_train_sampler(dataset))

    def _prepare_inputs(self, generation_batch: list[RowNumber]) -> dict[str, Any]:
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        if self.state.global_step != self._updates_seen:
            self._updates_seen, self._micro_steps = self.state.global_step, 0
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch) | {"rows": generation_batch}
            self._buffered_inputs = split_tensor_dict(permute_groups(batch, self.num_generations), steps)
            self._add_old_logps(self._buffered_inputs)
        self._micro_steps += 1
        return self._buffered_inputs[self._step % steps]

    def _add_old_logps(self, micro_batches: list[dict[str, Any]]) -> None:
        """Log-probs of the policy that sampled, for micro-batches whose first use comes after it was updated.

        For the others it is the policy of that first use, which leaves them for later iterations.
        """
        if not self.savings["reuse_old_logps"] or self.use_vllm:
            return  # TRL has computed them
        window = getattr(self, "current_gradient_accumulation_steps", self.args.gradient_accumulation_steps)
        for part in micro_batches[window - self._micro_steps :]:
            with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
                lengths = part["completion_mask"].sum(dim=1).tolist()
                scored = self._score(self.model, part["prompts"], part["completion_ids"], lengths)
            part["old_per_token_logps"] = scored.logps

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        prompts = with_signal(self, inputs)
        if not any(prompts):
            return sum((p * 0).sum() for p in model.parameters() if p.requires_grad)
        loss = super()._compute_loss(model, {**inputs, "pixel_values": prompts})  # TRL hands these through unread
        if self.num_iterations > 1 and self.savings["reuse_old_logps"]:
            inputs.setdefault("old_per_token_logps", self._logps)
        return loss

    def rows_of(self, inputs: dict[str, Any]) -> list[RowNumber]:
        return inputs.get("rows", ())  # an evaluation keeps none

    def where(self, row: RowNumber) -> str:
        return self.records[row["split"]][row["row"]].where

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        pixel_values: list[Prompt | None] | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor | None, ...]:
        """As TRL's: log-probs (N, C), entropies (N, C), MoE loss; `pixel_values` is the prompts, one a row."""
        if self._old_pass_due:
            self._old_pass_due = False
            return None, None, None
        prompts = self._prompts if pixel_values is None else pixel_values
        completions, lengths = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:].sum(dim=1).tolist()
        options = {"output_router_logits": True} if compute_aux_loss else {}

        def part(rows: slice) -> Scored:
            batch = (prompts[rows], completions[rows], lengths[rows])
            return self._score(model, *batch, entropy=compute_entropy, **options)

        scored = in_parts(part, len(prompts), batch_size)
        self._logps = scored.logps.detach()
        return scored.logps, scored.entropies, scored.aux_loss if compute_aux_loss else None

    def _score(self, model: torch.nn.Module, *batch: Any, **options: Any) -> Any:
        with self.accelerator.autocast():
            return score(model, self._backbone(model), *batch, shared=self.savings["shared_prefix"], **options)
