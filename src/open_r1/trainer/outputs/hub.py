"""Saves card and recipe beside the weights, and uploads model folders, without rollouts, to the hub.

transformers 5.17 and TRL 1.16 write a card without pictures into the run's folder and upload all of that folder. Here
card and recipe lie in each model folder, which is uploaded alone; `--hub_strategy` keeps its meaning.
`training_args.bin`, a pickle of the arguments with a hub token in clear, which nothing reads, is not written.
"""

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

from transformers.trainer_utils import HubStrategy
from transformers.utils.hub import PushInProgress, hf_api

from open_r1.config.model_arguments import VLMConfig
from open_r1.config.task_arguments import TaskArguments
from open_r1.data.paths import split_paths
from open_r1.models.quantization import four_bit_of
from open_r1.models.saving import SideFiles, save_side_files, save_weights, side_files
from open_r1.redaction import command_line, redacted
from open_r1.report.model_card import Card, write_card
from open_r1.report.run_folder import FINAL_MODEL
from open_r1.rewards.judge.settings import judge_text
from open_r1.tasks.find import find_task
from open_r1.tasks.recipe import FILE as RECIPE
from open_r1.tasks.recipe import Recipe
from open_r1.trainer.checkpointing.manifest import MANIFEST
from open_r1.trainer.protocols import RunTrainer

# Patterns of the files of a checkpoint-N that hold a run's state.
STATE_FILES = ["optimizer*", "scheduler*", "rng_state*", "run_state*", "trainer_state*", "latest"]
STATE_FILES += ["global_step*", "*fsdp_model*", "zero_to_fp32.py", "reference.safetensors", "entropy_ctrl*", MANIFEST]
CARD_SETTINGS = (
    "learning_rate num_generations per_device_train_batch_size gradient_accumulation_steps beta temperature seed"
)
PACKAGES = ("torch", "transformers", "trl", "peft", "deepspeed")


class HubUploads:
    """Mixin, before TRL's class: saves `recipe_and_card`, which the task scripts set, and uploads model folders."""

    recipe_and_card: tuple[Recipe, Card] | None = None

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        save_weights(self.accelerator.unwrap_model(self.model, keep_torch_compile=False), folder, state_dict)
        save_side_files(self.side_files(), folder)

    def side_files(self) -> SideFiles:
        """What is saved beside the weights, with card and recipe."""
        files = side_files(self.accelerator.unwrap_model(self.model), self.processing_class)
        if self.recipe_and_card is None:
            return files
        (recipe, card), state, run = self.recipe_and_card, self.state, Path(self.args.output_dir)

        def write_readme(folder: Path) -> None:
            write_card(folder, card, recipe, run, state.global_step, state.log_history)

        return {**files, RECIPE: recipe.save, "README.md": write_readme}

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: TRL's card would go to the run's folder, without a model; ours is saved with the weights."""

    def push_to_hub(self, commit_message: str | None = "End of training", blocking: bool = True, **kwargs: Any) -> Any:
        """Upload the final model's folder, which `save_model` has just written."""
        if self.hub_model_id is None:
            self.init_hf_repo(token=kwargs.get("token"))
        if not self.is_world_process_zero():
            return None
        self._finish_current_push()
        return self.upload(Path(self.args.output_dir) / FINAL_MODEL, commit_message, run_as_future=not blocking)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        strategy, folder = self.args.hub_strategy, Path(checkpoint_folder)
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        if self.push_in_progress is not None and not self.push_in_progress.is_done() and not self.args.hub_always_push:
            return
        message = f"Training in progress, step {self.state.global_step}"
        jobs = [self.upload(folder, message, run_as_future=True)]
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            place = "last-checkpoint" if strategy == HubStrategy.CHECKPOINT else folder.name
            all_files = {"path_in_repo": place, "ignore_patterns": None, "run_as_future": True}
            jobs.append(self.upload(folder, f"{message}, checkpoint", **all_files))
        self.push_in_progress = PushInProgress(jobs)

    def upload(self, folder: Path, message: str | None, **options: Any) -> Any:
        """Upload a folder without the run's state; `options` go to `upload_folder`."""
        return hf_api().upload_folder(
            repo_id=self.hub_model_id,
            folder_path=folder,
            commit_message=message,
            token=self.args.hub_token,
            revision=self.args.hub_revision,
            **{"ignore_patterns": STATE_FILES, **options},
        )


def recipe_of(task: TaskArguments, training: Any, model_args: VLMConfig) -> Recipe:
    """The recipe of a run: how it prompts its model."""
    return Recipe(
        task_type=task.task_type,
        prompt_mode=task.prompt_mode,
        prompt_template=task.prompt_template,
        reward_method=task.reward_method or find_task(task.task_type).method,
        max_completion_length=getattr(training, "max_completion_length", None),
        max_anyres_num=task.max_anyres_num,
        box_space=task.box_space,
        video_fps=task.video_fps,
        video_max_frames=task.video_max_frames,
        video_max_pixels=task.video_max_pixels,
        video_form=task.video_form,
        base_model=model_args.model_name_or_path,
    )


def card_of(trainer: RunTrainer, task: TaskArguments, training: Any, model_args: VLMConfig) -> Card:
    """The content of a run's model card; `trainer.facts` are those of `identity.run_facts`."""
    files = getattr(task, "data_file_paths", None)
    hub = getattr(task, "dataset_name", None)
    rewards = getattr(trainer, "reward_func_names", [])
    weights = trainer.reward_weights.tolist() if rewards else []
    return Card(
        method="GRPO" if rewards else "SFT",
        name=training.hub_model_id or Path(training.output_dir).resolve().name,
        instruction=find_task(task.task_type, task.prompt_template).prompts[task.prompt_mode],
        data=[Path(name).name for name in split_paths(files)] if files else [redacted(str(hub))],
        rows=trainer.facts["rows"],
        data_sha256=trainer.facts["sha256 of the data"],
        command=command_line(["python", *sys.argv]),
        ranks=training.world_size,
        changes=trainer.changes,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        rewards=list(zip(rewards, weights, strict=True)),
        judge=judge_text(trainer.facts),
        hub_dataset=hub if hub and not Path(hub).exists() else None,
        settings={n: getattr(training, n) for n in CARD_SETTINGS.split() if getattr(training, n, None) is not None}
        | ({"use_peft": True, "lora_r": model_args.lora_r} if model_args.use_peft else {})
        | ({"base model in": str(four_bit)} if (four_bit := four_bit_of(model_args)) else {}),
    )
