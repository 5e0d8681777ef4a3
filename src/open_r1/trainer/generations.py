"""Rows become completions with rewards: TRL's methods from the prompts of a generation to what it earns."""

from typing import Any

import torch
from accelerate.utils import gather_object
from trl.extras.profiling import profiling_context

from open_r1.models.generation_defaults import flags_alone
from open_r1.rewards.turns import completion_text
from open_r1.rollout.batching import Pictured, groups_of, merge_images
from open_r1.rollout.image_tokens import refuse_image_tokens
from open_r1.rollout.prompt_loader import RowNumber
from open_r1.rollout.prompts import Example, Prompt
from open_r1.rollout.tool_turns import turns_again
from open_r1.rollout.trajectory import ToolTurns, Trajectory
from open_r1.rollout.vision_features import with_features
from open_r1.trainer.checks.packing_check import check_packing
from open_r1.trainer.checks.vision_probe import probe_is_due, probe_vision
from open_r1.trainer.distributed import on_all_ranks
from open_r1.trainer.generation_batch import GenerationBatch
from open_r1.trainer.grading_log import grading_metrics
from open_r1.trainer.noisy_rollouts import log_noise, logged_noise, seen_rows, unknown_at
from open_r1.trainer.outputs.completion_stats import completion_stats, parse_rate
from open_r1.trainer.outputs.rollout_log import newest_completions
from open_r1.trainer.outputs.video_log import pictures_for_tracker
from open_r1.trainer.resampling import resampled
from open_r1.trainer.row_choice import learn_of_rows
from open_r1.trainer.tool_turns import log_tools, log_used_advantage, messages_of_rollouts, scored_tokens
from open_r1.trainer.transformers_rollout import rollout_with_tools, transformers_rollout
from open_r1.trainer.vllm_turns import vllm_rollout_with_tools

TRACKERS = {"wandb", "trackio"}  # whose tables of completions show pictures


class Generations:
    """Mixin, before TRL's class: a generation of rows, by transformers, vLLM or with tools, and what it earns."""

    def _generate_and_score_completions(self, inputs: list[RowNumber]) -> dict[str, Any]:
        batch = self.batch = self.new_batch(inputs)
        check_packing(self, batch.prompts)
        if self.model.training and self.args.resample_zero_variance:
            batch = self.batch = resampled(self, batch)
        output = super()._generate_and_score_completions([example.columns() for example in batch.examples])
        output["prompts"] = batch.prompts
        if batch.rollouts:
            output |= {"turns": batch.turns, "trajectories": [one.trajectory for one in batch.rollouts]}
        if self.engine is not None:
            self.engine.check(self._metrics["train" if self.model.training else "eval"])
        if self.log_completions and self.log_multimodal and TRACKERS & {*(self.args.report_to or ())}:
            self._logs["images"].extend(gather_object(pictures_for_tracker(batch.examples)))
        self.refuse_moved()
        if self.model.training:
            output["rows"] = batch.rows
            logged = newest_completions(self._logs, self.accelerator, len(inputs)) | batch.stats
            logged["noisy"] = logged_noise(self)
            if batch.rollouts:
                logged["turns"] = [one.turns for one in batch.rollouts]
                log_used_advantage(self, batch.rollouts, output["advantages"])
            if probe_is_due(self):
                logged["dependency"] = probe_vision(self, output["completion_ids"], output["completion_mask"])
            self.rollouts.add(self.state.global_step, batch.examples, logged, self.num_generations)
            self.whole_steps.note(output, batch.stats)
        self.batch = None
        return output

    def new_batch(self, inputs: list[RowNumber], beside: bool = False) -> GenerationBatch:
        """Load and process rows onto the device, with `beside` those of no data loader. Raises DataError, on all
        ranks, if one fails to read a picture."""
        take = self.loader.take_beside if beside else self.loader.take
        with self.watch.phase("data"):
            examples = on_all_ranks(lambda: take(inputs))
        generate_every = self.args.steps_per_generation * self.num_iterations
        misaligned = self.args.gradient_accumulation_steps % generate_every != 0
        skip_old_pass = misaligned and not self.use_vllm and self.optimizations["reuse_old_logps"]
        return GenerationBatch(inputs, examples, self.prompts_on_device(examples), skip_old_pass)

    def prompts_on_device(self, examples: list[Example]) -> list[Prompt]:
        """One Prompt a row; equal rows share one object."""
        unique = {id(example.prompt): example.prompt for example in examples}
        unique = {key: prompt.to(self.accelerator.device) for key, prompt in unique.items()}
        unique = {key: self.with_vision(prompt) for key, prompt in unique.items()}
        return [unique[id(example.prompt)] for example in examples]

    def with_vision(self, shown: Pictured) -> Pictured:
        """A prompt, or turns of tools, with features of its pictures where the vision tower is frozen."""
        if not self.optimizations["reuse_vision_features"]:
            return shown
        with self.accelerator.autocast():
            return with_features(self.backbone_of(self.model), shown)

    def turns_on_device(self, turns: ToolTurns) -> ToolTurns:
        """Turns of tools as `prompts_on_device` makes prompts."""
        return self.with_vision(turns.to(self.accelerator.device))

    def turns_again(self, trajectory: Trajectory) -> ToolTurns | None:
        """What tools put into a completion that was saved or sent, on the device."""
        turns = turns_again(trajectory, self.fields, self.processing_class)
        return turns and self.turns_on_device(turns)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Any, ...]:
        heads, group = groups_of(self.batch.prompts)
        ids = [prompt.ids.tolist() for prompt in heads]
        return [ids[number] for number in group], None, {}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        if self.batch.sampled is not None:
            return self.batch.sampled.ids, self.batch.sampled.logps
        with self.watch.phase("rollout"), flags_alone(self.accelerator.unwrap_model(self.model)):
            completions = self._completions(*args, **kwargs)
        self.signals.check(self.accelerator)  # a rollout cut short by a signal ends here
        sampled = [one.trajectory.sampled_ids for one in self.batch.rollouts]
        self.refuse_image_tokens(sampled or completions[0])
        return completions

    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        prompt_ids, ids, scored, completions, *others = super()._generate(prompts)
        if self.batch.rollouts:
            scored, completions = scored_tokens(self.batch.rollouts), messages_of_rollouts(self.batch.rollouts)
            log_tools(self, self.batch.rollouts)
        return prompt_ids, ids, scored, completions, *others

    def refuse_image_tokens(self, ids: list[list[int]]) -> None:
        """Raises ImageTokenSampled, on all ranks, if a completion of any has an image token."""
        records, engine = self.batch.records, "vLLM" if self.use_vllm else "transformers"
        on_all_ranks(lambda: refuse_image_tokens(records, ids, self.banned_ids, engine))

    def _completions(self, prompt_ids: Any, images: Any, fields: Any, *args: Any, **kwargs: Any) -> Any:
        """(token ids of N completions, their log-probs or None)."""
        seen = seen_rows(self)
        prompts = seen.prompts
        if self.toolbox is not None:
            rollout = rollout_with_tools if self.engine is None else vllm_rollout_with_tools
            rollouts = rollout(self, seen.examples, prompts)
            self.batch.take_rollouts(rollouts)
            logps = None if self.engine is None else [one.trajectory.logps for one in rollouts]
            return [one.trajectory.ids for one in rollouts], logps and unknown_at(logps, seen.noisy)
        if self.engine is not None:
            with profiling_context(self, "vLLM.generate"):
                ids, logps = self.engine.rollout(seen.examples, self._step)
            return ids, unknown_at(logps, seen.noisy)
        if not self.optimizations["prefill_once"]:
            types = {name: [p.types[name].tolist() for p in prompts] for name in prompts[0].types}
            fields = merge_images(prompts, packed=False) | types
            return super()._generate_single_turn(prompt_ids, images, fields, *args, **kwargs)
        return transformers_rollout(self, prompts), None

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], ids: list[list[int]]
    ) -> torch.Tensor:
        end_ids = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        self.batch.stats = completion_stats([e["record"] for e in inputs], completions, ids, end_ids, self.graded)
        rate = parse_rate(self.batch.stats["parsed"], self.accelerator)
        self._metrics["train" if self.model.training else "eval"]["parse_rate"].append(rate)
        sampled = self.batch.sampled
        rewards = self.rewards_of(inputs, completions, ids) if sampled is None else sampled.rewards
        log_noise(self, rewards)
        for name, count in grading_metrics().items():
            self._log_metric(name, count)
        said = completions if self.batch.rollouts else [None] * len(ids)
        texts = list(map(completion_text, completions))
        self.batch.stats |= {"texts": texts, "ids": ids, "earned": rewards, "messages": said}
        return rewards

    def rewards_of(self, inputs: list[dict[str, Any]], completions: list[Any], ids: list[list[int]]) -> torch.Tensor:
        """Grade completions of `inputs`: (rows of all ranks, functions); what a training row earned is counted."""
        # under this name only here: TRL would put a column `images` into the prompts a second time
        columns = [{**e, "images": e["pictures"]} for e in inputs]
        with self.watch.phase("reward"):
            rewards = super()._calculate_rewards(columns, [e["prompt"] for e in inputs], completions, ids)
        if self.model.training:
            learn_of_rows(self, rewards)
        return rewards
