"""GRPO on `Record`s: TRL's trainer, computing a group's prompt and images once.

What differs from TRL 1.16, and why:
  - the dataset is row numbers; background workers turn a row into a `Prompt` once, just before its generation (TRL's
    sampler yields a row G x steps_per_generation x num_iterations times, and processes its images twice each time);
  - rollout, old, reference and policy passes compute a group's prompt once (`rollout.generation`, `forward`);
  - micro-batches are made of whole groups (TRL shuffles rows, which scatters a group over micro-batches);
  - completions that cannot move the policy are not computed, nor log-probs of the old policy where it is the policy;
  - no token that stands for an image can be sampled (TRL bans one of the four);
  - groups without spread may be replaced before a step, rows drawn by difficulty (`resampling`, `row_choice`);
  - a part of each group may be sampled from noisy pictures (`noisy_rollouts`);
  - tools answer calls as `rollout.turns` and `open_r1.tools` say (TRL's loop is wrong about pictures);
  - vLLM is started by `vllm_rollout` (TRL sends its colocated engine expanded prompts, which are expanded again);
  - a run that was stopped continues exactly (`checkpointing`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftConfig
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import split_tensor_dict

from open_r1.config.task_arguments import TaskArguments
from open_r1.config.training_arguments import GRPOArguments
from open_r1.config.video_flags import frame_cache, frame_sampling
from open_r1.data.chat import messages, with_images
from open_r1.data.record import Record
from open_r1.models.banned_tokens import image_token_ids
from open_r1.models.model_parts import bare_model
from open_r1.models.quantization import trained_weights, unround_adapters
from open_r1.rollout.batching import permute_groups
from open_r1.rollout.image_tokens import with_banned
from open_r1.rollout.processor_fields import prompt_fields
from open_r1.rollout.prompt_loader import PromptLoader, RowNumber, row_numbers
from open_r1.rollout.turns import opening_of, with_tool_list, with_tool_options
from open_r1.tools.toolbox import Toolbox
from open_r1.trainer.checkpointing.resumable import EpochSampler, Resumable
from open_r1.trainer.checks.health import Health
from open_r1.trainer.checks.nonfinite import NonfiniteGuard
from open_r1.trainer.checks.weight_updates import WeightUpdates
from open_r1.trainer.distributed import CollectiveReward, networks_of
from open_r1.trainer.forward.dummy_image import run_vision_on_all_ranks
from open_r1.trainer.forward.head_input import complete_fused_heads
from open_r1.trainer.forward.log_probs import LogProbPasses
from open_r1.trainer.forward.optimizations import optimizations_of, rows_with_signal
from open_r1.trainer.forward.patch_masks import pixels_of_color
from open_r1.trainer.forward.perception import perception_aware_loss, rewards_looking
from open_r1.trainer.forward.router_loss import refuse_parts_of_router_loss
from open_r1.trainer.forward.shared_prefix import share_prefixes
from open_r1.trainer.generation_batch import GenerationBatch, LossRows
from open_r1.trainer.generations import Generations
from open_r1.trainer.lifecycle.hooks import LifecycleHooks
from open_r1.trainer.outputs.hub import HubUploads
from open_r1.trainer.outputs.rollout_log import RolloutLog
from open_r1.trainer.outputs.row_rates import RowRates
from open_r1.trainer.outputs.whole_steps import WholeSteps
from open_r1.trainer.rollout_ahead import Ahead
from open_r1.trainer.row_choice import RowChoice, begin_next_rows
from open_r1.trainer.tool_turns import refuse_one_turn
from open_r1.trainer.vllm_rollout import VLLMRollouts


class VLMGRPOTrainer(NonfiniteGuard, LifecycleHooks, Resumable, HubUploads, LogProbPasses, Generations, GRPOTrainer):
    """TRL's GRPOTrainer on `Record`s. What is overridden, from the sampler to the loss:

    | method | what it does here | room |
    |---|---|---|
    | `_get_train_sampler` | the order of rows depends on (seed, epoch) alone | `checkpointing.resumable` |
    | `_prepare_inputs` | a generation every `steps_per_generation` micro-batches, cut into whole groups | here |
    | `_generate_and_score_completions` | row numbers become a `GenerationBatch`; rollouts are logged | `generations` |
    | `_tokenize_prompts` | the token ids of the prompts of the batch | `generations` |
    | `_generate_single_turn` | completions: by one prefill a prompt, or by vLLM | `generations`, `*_rollout` |
    | `_calculate_rewards` | rewards in worker processes; answers parsed for the log | `generations`, `rewards` |
    | `_get_per_token_logps_and_entropies` | old and reference passes first, the policy pass in the loss | `forward` |
    | `_compute_loss` | TRL's loss over the rows that move the policy | `forward.optimizations` |

    Mixins, outermost first: `NonfiniteGuard` checks the loss and the gradient norm of all others; `LifecycleHooks`
    sets the phase around training and saving; `Resumable` saves into a folder that `HubUploads` completes;
    `LogProbPasses` computes log-probs; `Generations` samples and rewards.
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
        peft_config: PeftConfig | None = None,
        toolbox: Toolbox | None = None,
        video_form: str | None = "native",
    ):
        """`records` and `eval_records` are sequences of `Record`s; `annotate` adds to a record what rewards need.

        `instruction` is the task's prompt template with `{question}`; rewards are `rewards.trl_adapter.BatchReward`s;
        `toolbox` answers the calls of completions, None without tools; `video_form`: that of the rows' videos.
        """
        self.records, self.instruction = {"train": records, "eval": eval_records}, instruction
        self.box_space = task.box_space  # None where none is known, and no row asks for one
        self.banned_ids = image_token_ids(model.config, processor)
        use_vllm, args.use_vllm = args.use_vllm, False  # TRL would start an engine that expands images twice
        if not use_vllm:
            args.generation_kwargs = with_banned(args.generation_kwargs or {}, self.banned_ids)
        given = trained_weights(model)
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
        unround_adapters(self.model, given)
        self.use_vllm = args.use_vllm = use_vllm
        self.health = Health(args.output_dir, args.stop_on)
        self.add_callback(self.health)
        self.add_callback(WeightUpdates(self))
        self.graded = not task.reward_funcs or "accuracy" in task.reward_funcs
        rank = self.accelerator.process_index
        self.rollouts = RolloutLog(args.output_dir, task.rollout_groups, rank, task.rollouts_to_keep, self.graded)
        self.toolbox = toolbox
        keep = 0 if toolbox and toolbox.arena else args.keep_whole_steps  # a replay asks no environment
        self.whole_steps = WholeSteps(args.output_dir, keep, rank, self.accelerator.num_processes)
        template = with_tool_options({"chat_template": self.chat_template, **self.chat_template_kwargs}, toolbox)
        complete_fused_heads(self)
        if self.aux_loss_enabled:
            refuse_parts_of_router_loss(self.router_aux_loss_coef, args.tokens_per_forward)
        self.fields = prompt_fields(processor, bare_model(self.model), template, video_form)
        self.black_pixels = pixels_of_color(processor, self.fields) if rewards_looking(args) else {}
        self.optimizations = optimizations_of(self, bare_model(self.model))
        if self.optimizations["shared_prefix"]:
            for network in networks_of(self):
                share_prefixes(network)
        run_vision_on_all_ranks(self, self.fields)
        self.loader = PromptLoader(
            record_of=lambda row: annotate(self.records[row["split"]][row["row"]]),
            conversation=lambda record, pictures: with_images(
                with_tool_list(messages(record, instruction), toolbox), pictures
            ),
            processor=processor,
            fields=self.fields,
            workers=task.image_workers,
            template=template,
            opening=opening_of(toolbox),
            frames=frame_sampling(task),
            frame_cache=frame_cache(task),
        )
        self.row_choice = RowChoice(records, args, self.accelerator.process_index, self.accelerator.num_processes)
        by_difficulty = self.row_choice.difficulty is not None
        self.data_collator = self.loader.prefetch_evaluation if by_difficulty else self.loader.prefetch
        if by_difficulty:
            self.add_callback(RowRates(self))
        self.batch: GenerationBatch | None = None  # of the generation in progress
        self._micro_batch_step, self._micro_batch_count = -1, 0  # of the optimizer step in progress
        self.packing_checked = False  # whether completions of a packed group were seen to be independent
        self.agreement_checked = False  # whether the first rollout was compared with a training pass
        self.ahead: Ahead | None = None  # the next generation, where it was begun
        self.engine = VLLMRollouts(self, self.banned_ids) if use_vllm else None
        if toolbox is not None:
            refuse_one_turn(self)

    # --------------------------------------------------------------------------------------------------- training

    def _get_train_sampler(self, dataset: Any = None) -> EpochSampler:
        return EpochSampler.like(super()._get_train_sampler(dataset))

    def _prepare_inputs(self, generation_batch: list[RowNumber]) -> dict[str, Any]:
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        if self.state.global_step != self._micro_batch_step:
            self._micro_batch_step, self._micro_batch_count = self.state.global_step, 0
        steps = self.args.steps_per_generation
        if self._step % (steps * self.num_iterations) == 0 or self._buffered_inputs is None:
            rows = self.row_choice.rows_of_generation(generation_batch, self._step)
            batch = self._generate_and_score_completions(rows)
            begin_next_rows(self, generation_batch)
            self._buffered_inputs = split_tensor_dict(self.in_learned_order(batch), steps)
            self._add_old_logps(self._buffered_inputs)
        self._micro_batch_count += 1
        return self._buffered_inputs[self._step % steps]

    def in_learned_order(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A generation's batch in the order in which micro-batches take its groups; it is kept whole in that order."""
        batch = permute_groups(batch, self.num_generations)
        self.whole_steps.add(self, batch)
        return batch

    def _add_old_logps(self, micro_batches: list[dict[str, Any]]) -> None:
        """Add log-probs of the sampling policy to micro-batches that are first used after the policy's update.

        The first use of the others is by the sampling policy itself, and its pass stores them for later iterations.
        """
        if not self.optimizations["reuse_old_logps"] or self.use_vllm:
            return  # TRL computes them
        window = getattr(self, "current_gradient_accumulation_steps", self.args.gradient_accumulation_steps)
        for part in micro_batches[window - self._micro_batch_count :]:
            with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
                lengths = part["completion_mask"].sum(dim=1).tolist()
                batch = (part["prompts"], part["completion_ids"], lengths)
                scores = self.score_in_parts(self.model, *batch, turns=part.get("turns", ()))
            part["old_per_token_logps"] = scores.logps

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        rows = LossRows(rows_with_signal(self, inputs), inputs.get("turns", ()))
        if not any(rows.prompts):
            return sum((p * 0).sum() for p in model.parameters() if p.requires_grad)
        if self.model.training and rewards_looking(self.args):
            loss = perception_aware_loss(self, model, inputs, rows, super()._compute_loss)
        else:
            loss = super()._compute_loss(model, {**inputs, "pixel_values": rows})  # TRL passes these on unread
        if self.num_iterations > 1 and self.optimizations["reuse_old_logps"]:
            inputs.setdefault("old_per_token_logps", rows.logps)
        return loss

    def rows_of(self, inputs: dict[str, Any]) -> list[RowNumber]:
        return inputs.get("rows", ())  # an evaluation has none

    def place_of(self, row: RowNumber) -> str:
        return self.records[row["split"]][row["row"]].where
