"""What the trainer relies on in TRL 1.16 and transformers 5.17; a new release must pass this before its pin moves."""

import inspect
from importlib.metadata import version

import torch
import trl.trainer.grpo_trainer as upstream
from trl import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, split_tensor_dict, unsplit_pixel_values_by_grid


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_pinned_versions_are_the_ones_examined():
    assert version("trl").startswith("1.16.") and version("transformers").startswith("5.17.")


def test_the_methods_that_are_overridden_exist_with_the_arguments_used():
    assert parameters(GRPOTrainer._prepare_inputs) == ["self", "generation_batch"]
    assert parameters(GRPOTrainer._generate_and_score_completions) == ["self", "inputs"]
    logps = parameters(GRPOTrainer._get_per_token_logps_and_entropies)
    assert logps[:6] == ["self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size"]


def test_only_two_image_independent_tensors_besides_the_split_ones_reach_the_log_probs():
    known = {
        "pixel_values",
        "image_grid_thw",
        "num_images",
        "pixel_attention_mask",
        "spatial_shapes",
        "num_tiles",
        "image_sizes",
        "token_type_ids",
        "mm_token_type_ids",
        "image_position_ids",
        "compute_entropy",
        "compute_aux_loss",
    }
    assert set(parameters(GRPOTrainer._get_per_token_logps_and_entropies)[6:]) == known


def test_trl_still_shuffles_rows_which_is_why_prepare_inputs_is_replaced():
    assert "shuffle_sequence_dict(generation_batch)" in inspect.getsource(GRPOTrainer._prepare_inputs)


def test_trl_still_bans_one_image_token_only():
    assert '"suppress_tokens"] = [model.config.image_token_id]' in inspect.getsource(GRPOTrainer.__init__)
    assert "generation_kwargs.update(args.generation_kwargs)" in inspect.getsource(GRPOTrainer.__init__)


def test_the_logs_hold_one_entry_a_completion_gathered_over_ranks():
    source = inspect.getsource(upstream.GRPOTrainer._generate_and_score_completions)
    assert 'self._logs["completion"].extend(gather_object(completions))' in source
    assert 'self._logs["rewards"][name].extend(rewards_per_func[:, i].tolist())' in source
    assert 'self._logs["advantages"].extend(all_process_advantages.tolist())' in source


def test_splitting_by_grid_and_back_keeps_each_rows_patches():
    batch = {
        "x": torch.arange(3),
        "pixel_values": torch.arange(12.0).view(6, 2),  # 2 patches, 4 patches
        "image_grid_thw": torch.tensor([[1, 1, 2], [1, 2, 2]]),
        "num_images": [1, 0, 1],
    }
    first, second, third = map(unsplit_pixel_values_by_grid, split_tensor_dict(split_pixel_values_by_grid(batch), 3))
    assert [len(part["pixel_values"]) for part in (first, second, third)] == [2, 0, 4]
    assert torch.equal(third["pixel_values"], batch["pixel_values"][2:])
