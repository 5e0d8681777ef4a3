"""What the trainer relies on in TRL 1.16 and transformers 5.17; a new release must pass this before its pin moves."""

import inspect
from collections import defaultdict
from importlib.metadata import version
from types import SimpleNamespace

import torch
import trl.trainer.grpo_trainer as upstream
from PIL import Image
from transformers import AutoProcessor, DynamicCache, Trainer, masking_utils
from trl import GRPOTrainer
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import RepeatSampler, add_fused_lm_head, split_tensor_dict

from open_r1.trainer.checkpointing.run_state import COUNTERS


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_pinned_versions_are_the_ones_examined():
    assert version("trl").startswith("1.16.") and version("transformers").startswith("5.17.")


def test_the_methods_that_are_overridden_exist_with_the_arguments_used():
    assert parameters(GRPOTrainer._prepare_inputs) == ["self", "generation_batch"]
    assert parameters(GRPOTrainer._generate_and_score_completions) == ["self", "inputs"]
    rewards = ["self", "inputs", "prompts", "completions", "completion_ids_list"]
    assert parameters(GRPOTrainer._calculate_rewards) == rewards
    logps = parameters(GRPOTrainer._get_per_token_logps_and_entropies)
    assert logps[:6] == ["self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size"]


def test_counts_that_are_logged_with_the_rewards_are_metrics_of_the_step():
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert source.index("self._calculate_rewards(") < source.index("self._pending_metrics.clear()")
    trainer = SimpleNamespace(_pending_metrics=defaultdict(list))
    GRPOTrainer._log_metric(trainer, "grading/timeouts", 1.0)
    assert trainer._pending_metrics == {"grading/timeouts": [1.0]}


def test_completions_can_be_sampled_and_scored_before_the_rest_of_a_generation():
    """`trainer.resampling` calls both, and hands their results on where TRL calls them again."""
    assert parameters(GRPOTrainer._generate) == ["self", "prompts"]
    generate = inspect.getsource(GRPOTrainer._generate)
    returned = "return prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images"
    assert returned in generate and generate.count("self._generate_single_turn(") == 1
    scored = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert scored.index("self._generate(prompts)") < scored.index("self._calculate_rewards(")
    rewards = inspect.getsource(GRPOTrainer._calculate_rewards)
    assert "gather(rewards_per_func)" in rewards and '"log_extra"] = self._log_completion_extra' in rewards


def test_pixel_values_reach_the_log_probs_unread_from_the_loss_and_are_absent_from_generation():
    loss = inspect.getsource(GRPOTrainer._compute_loss)
    assert loss.count("pixel_values") == 2 and 'pixel_values=inputs.get("pixel_values")' in loss
    generation = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "images, tool_images" in inspect.getsource(GRPOTrainer._generate)
    assert "elif images is not None:" in generation and "forward_kwargs = {}" in generation


def test_old_log_probs_come_first_and_only_where_steps_are_misaligned():
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    condition = "if self.args.gradient_accumulation_steps % generate_every != 0 or ("
    assert source.index(condition) < source.index("ref_per_token_logps, _, _ = self._get_per_token_logps")
    assert "if old_per_token_logps is not None:" in source
    assert "old_per_token_logps is None else" in inspect.getsource(GRPOTrainer._compute_loss)


def test_the_fused_head_scores_labels_that_are_shifted_already():
    source = inspect.getsource(add_fused_lm_head)
    assert "shift_labels=None" in source and "labels = shift_labels" in source


def test_rollouts_build_on_public_cache_methods():
    assert parameters(DynamicCache.batch_select_indices) == ["self", "indices"]
    assert parameters(GRPOTrainer._generate_single_turn)[:5] == [
        "self",
        "prompt_ids",
        "images",
        "multimodal_fields",
        "num_generations",
    ]
    assert "self._dist = DistributedBackend(self.accelerator)" in inspect.getsource(GRPOTrainer.__init__)


def test_a_mask_of_four_dimensions_is_handed_on_unread():
    source = inspect.getsource(masking_utils._preprocess_mask_arguments)
    assert "len(attention_mask.shape) == 4:\n        return True, attention_mask" in source


def test_trl_still_shuffles_rows_which_is_why_prepare_inputs_is_replaced():
    assert "shuffle_sequence_dict(generation_batch)" in inspect.getsource(GRPOTrainer._prepare_inputs)


def test_trl_still_bans_one_image_token_only():
    assert '"suppress_tokens"] = [model.config.image_token_id]' in inspect.getsource(GRPOTrainer.__init__)
    assert "generation_kwargs.update(args.generation_kwargs)" in inspect.getsource(GRPOTrainer.__init__)


def test_trl_still_gives_vllm_expanded_prompts_beside_the_pictures(tiny):
    """The fault for which `rollout/vllm` and `trainer/vllm_rollout.py` exist: vLLM expands each image's tokens itself,
    so a prompt that is expanded already is read as another one, and every rollout is about another picture."""
    processor = AutoProcessor.from_pretrained(tiny)
    content = [{"type": "image", "image": Image.new("RGB", (112, 56))}, {"type": "text", "text": "Which digits?"}]
    trainer = SimpleNamespace(
        processing_class=processor, _is_vlm=True, environment_factories=None, tools=None, chat_template=None,
        chat_template_kwargs={},
    )  # fmt: skip
    ids, images, _ = GRPOTrainer._tokenize_prompts(trainer, [[{"role": "user", "content": content}]])
    expanded = ids[0].count(processor.image_token_id) > len(images[0])
    handed_on = 'row = {"prompt_token_ids": ids}' in inspect.getsource(VLLMGeneration.generate)
    assert expanded and handed_on, (
        "TRL no longer hands expanded prompts to vLLM: measure its colocate mode with pytest -m vllm; where log-probs "
        "agree, rollout/vllm/{colocate,policy_weights,server_client,wire,weight_channel,worker}.py and "
        "trainer/vllm_rollout.py can go, and VLMGRPOTrainer pass use_vllm on"
    )


def test_the_logs_hold_one_entry_a_completion_gathered_over_ranks():
    source = inspect.getsource(upstream.GRPOTrainer._generate_and_score_completions)
    assert 'self._logs["completion"].extend(gather_object(completions))' in source
    assert 'self._logs["rewards"][name].extend(rewards_per_func[:, i].tolist())' in source
    assert 'self._logs["advantages"].extend(all_process_advantages.tolist())' in source


def test_lists_are_split_with_the_tensors():
    _, second = split_tensor_dict({"x": torch.arange(4), "prompts": list("abcd"), "n": torch.tensor(4)}, 2)
    assert second["x"].tolist() == [2, 3] and second["prompts"] == ["c", "d"] and second["n"] == 4


def test_the_state_of_a_rank_is_saved_before_old_checkpoints_go_and_restored_before_the_first_step():
    saving = inspect.getsource(Trainer._save_checkpoint)
    assert saving.index("self._save_rng_state(output_dir)") < saving.index("rotate_checkpoints(")
    epoch = inspect.getsource(Trainer._run_epoch)
    assert epoch.count("self._load_rng_state(resume_from_checkpoint)") == 2
    assert epoch.rindex("self._load_rng_state(") < epoch.index("self.training_step(")
    loop = inspect.getsource(Trainer._inner_training_loop)
    assert "self._run_epoch(\n                model=model,\n                epoch=epoch," in loop
    assert parameters(Trainer._maybe_log_save_evaluate)[0] == "self"


def test_what_a_resume_puts_back_still_exists():
    source = "".join(inspect.getsource(method) for method in (Trainer._inner_training_loop, GRPOTrainer.__init__))
    assert [name for name in COUNTERS if f"self.{name} = " not in source] == []
    for name in ("_buffered_inputs = None", "_metrics = {", "_logs = {"):
        assert f"self.{name}" in source
    assert not hasattr(RepeatSampler, "set_epoch")


def test_transformers_still_loads_checkpoints_under_the_names_in_the_file_and_passes_over_the_missing():
    assert "model.load_state_dict(state_dict, False)" in inspect.getsource(Trainer._load_from_checkpoint)
    assert "model.load_state_dict(state_dict, False)" in inspect.getsource(Trainer._load_best_model)
