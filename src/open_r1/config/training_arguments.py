"""Flags of training, over those of TRL and transformers; `open_r1.config.parser` parses and checks them."""

from dataclasses import dataclass, field

from trl import GRPOConfig, SFTConfig

from open_r1.config.loss_types import LOSS_NAMES, described, fill_loss_defaults
from open_r1.config.tool_arguments import ToolArguments


@dataclass
class RunArguments:
    """Flags of the watchdog, non-finite steps and resuming; mixed into GRPO's and SFT's TrainingArguments.

    Building these arguments only stores values. `config.hardware.prepare` then fits them to the machine and calls
    `complete`, in which TRL and transformers derive the rest, choose the device and start the process group.
    """

    hang_timeout: float = field(
        default=1800.0,
        metadata={
            "help": "Seconds without progress after which a run writes the stacks of all ranks to OUTPUT_DIR/watchdog "
            "and ends with status 4; 0 for never. It must allow one rollout, evaluation step or save; --ddp_timeout "
            "is raised above it."
        },
    )
    on_nonfinite: str = field(
        default="stop",
        metadata={
            "help": "What NaN or infinity in loss or gradient does: stop ends the run before the weights are touched, "
            "with a checkpoint; skip leaves the step out, and stops after 10 in a row.",
            "choices": ["stop", "skip"],
        },
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "A folder checkpoint-N, true for the newest whole one in --output_dir, or auto for that one where "
            "there is any."
        },
    )
    resume_unverified: bool = field(
        default=False,
        metadata={
            "help": "Continue also from a checkpoint without manifest.json, of an older version or another program: "
            "whether its files are whole cannot be told."
        },
    )

    resume_changed: str | None = field(
        default=None,
        metadata={
            "help": "Kinds of files that may differ from those of the checkpoint, with commas between: data, images, "
            "rewards, processor, model, deepspeed. What changed is logged, and recorded in checkpoints and model card."
        },
    )

    def __post_init__(self) -> None:
        """Does nothing: `complete` does it later, see the class."""

    def complete(self) -> None:
        """Run the `__post_init__` of TRL and transformers. Raises ValueError for values that contradict each other."""
        super().__post_init__()


@dataclass
class GRPOArguments(ToolArguments, RunArguments, GRPOConfig):
    """TRL's GRPOConfig with defaults that fit one machine: bf16 only on CUDA, every step logged."""

    logging_steps: float = field(default=1, metadata={"help": "Log every so many steps."})
    loss_type: str = field(
        default="dapo",
        metadata={
            "help": "How the losses of tokens are clipped and averaged, with the clip, level and scale that its "
            "publication names (config/loss_types.py).",
            "choices": list(LOSS_NAMES),
        },
    )
    epsilon: float | None = field(
        default=None,
        metadata={
            "help": f"Clip of the ratio at 1 - epsilon, by default the loss type's: 0.2, {described('epsilon')}."
        },
    )
    epsilon_high: float | None = field(
        default=None,
        metadata={
            "help": "Clip of the ratio at 1 + epsilon_high, and for cispo the bound of its weight, by default the "
            f"loss type's: {described('epsilon_high')}, else and with --epsilon alone the same as --epsilon."
        },
    )
    importance_sampling_level: str | None = field(
        default=None,
        metadata={
            "help": "The ratio of each token, or one of a whole completion, by default the loss type's: sequence for "
            "luspo, else token; grpo takes both, and by sequence is GSPO.",
            "choices": ["token", "sequence"],
        },
    )
    scale_rewards: str | None = field(
        default=None,
        metadata={
            "help": "What advantages are divided by: the standard deviation of the group, of the batch, or none, by "
            f"default the loss type's: group, {described('scale_rewards')}."
        },
    )
    stop_on: list[str] | None = field(
        default=None,
        metadata={
            "help": "Findings that end the run with a checkpoint, the final model and status 3, such as kl_exploding; "
            "all are logged anyway."
        },
    )
    keep_whole_steps: int = field(
        default=3,
        metadata={
            "help": "Keep the rollouts of so many last steps whole, and those of step 1 and of the step after each "
            "checkpoint, in OUTPUT_DIR/whole_steps, for python -m open_r1.replay; 0 for none."
        },
    )
    shared_prefix: bool = field(
        default=True,
        metadata={"help": "Compute a group's prompt and images once in policy, old and reference passes; exact."},
    )
    tokens_per_forward: int | None = field(
        default=None,
        metadata={
            "help": "Compute a micro-batch in parts of at most so many tokens, whole groups where they fit; exact. Of "
            "several parts each is computed again in the backward pass, so that memory holds the activations of one."
        },
    )
    check_packing: bool = field(
        default=True,
        metadata={
            "help": "Before the first rollout, change one completion of a packed group and end the run if another's "
            "log-probs move."
        },
    )
    prefill_once: bool = field(
        default=True,
        metadata={"help": "Compute a prompt once in rollouts and share its KV cache; drop rows that ended; exact."},
    )
    skip_zero_advantages: bool = field(
        default=True,
        metadata={"help": "Leave out completions whose advantage is zero, where nothing else moves them; exact."},
    )
    reuse_old_logps: bool = field(
        default=True,
        metadata={"help": "Take old log-probs from the policy pass where the policy has not changed since; exact."},
    )
    reuse_vision_features: bool = field(
        default=True,
        metadata={"help": "Compute a frozen vision tower once per prompt for all passes; exact."},
    )
    vision_probe: int = field(
        default=0,
        metadata={
            "help": "Every so many steps, measure whether the policy looks: log-probs of a few groups and greedy "
            "answers with their own pictures, with blank ones and with other rows' (vision/dependency, "
            "vision/blind_accuracy); 0 for never."
        },
    )
    perception_coef: float = field(
        default=0.0,
        metadata={
            "help": "PAPO: weight of the KL between the policy with the picture and with a masked one, which is "
            "maximized; the paper's is 0.01 to 0.02. 0 for none."
        },
    )
    perception_mask_share: float | None = field(
        default=None,
        metadata={
            "help": "Share of a picture's patches that are masked. Default: 0.6, as in PAPO; 0.5 for VPPO alone."
        },
    )
    perception_entropy_coef: float = field(
        default=0.03,
        metadata={"help": "PAPO: weight of the entropy with the clean picture, which is minimized; the paper's."},
    )
    perception_masked_entropy_coef: float = field(
        default=0.0,
        metadata={
            "help": "PAPO: weight of the entropy with the masked picture, which is minimized. The paper's is 0.03; "
            "above 0 the masked pass has a gradient, which doubles an update, and which the paper's code leaves out."
        },
    )
    visual_token_share: float = field(
        default=1.0,
        metadata={
            "help": "VPPO: only this share of a completion's tokens, those that depend most on the picture, move the "
            "policy, and advantages are scaled by a completion's dependency; the paper's is 0.4. 1 for plain GRPO."
        },
    )
    visual_advantage_min: float = field(
        default=0.9,
        metadata={"help": "VPPO: factor of the advantage of the completion that depends least; 1 scales none."},
    )
    noisy_rollouts: float = field(
        default=0.0,
        metadata={
            "help": "NoisyRollout: share of a group's completions, rounded to whole ones, that are sampled from the "
            "pictures and videos under noise; all are learned with the clean ones. The paper's is 0.5; 0 for none."
        },
    )
    noise_step: int = field(
        default=500,
        metadata={
            "help": "NoisyRollout: strength of the noise at first, a step of 999 of a diffusion, annealed to 0 over "
            "the run; the paper's is 450 or 500, which leaves 0.86 of the picture under noise of 0.5."
        },
    )
    vllm_lora_sync: str = field(
        default="merged",
        metadata={
            "help": "What vLLM is sent of a LoRA policy at each step: merged, all weights with the adapter merged in; "
            "adapter, the adapter alone, which vLLM applies beside the base's weights.",
            "choices": ["merged", "adapter"],
        },
    )
    rollout_ahead: int = field(
        default=0,
        metadata={
            "help": "1: a vLLM server generates the next step's completions while the policy learns from this step's; "
            "they are one step old, which importance sampling corrects.",
            "choices": [0, 1],
        },
    )
    resample_zero_variance: int = field(
        default=0,
        metadata={
            "help": "Replace groups whose rewards have no spread by groups of other rows, up to so many times a "
            "generation; the step keeps its size. All completions are counted in rollouts/sampled."
        },
    )
    row_sampling: str = field(
        default="uniform",
        metadata={
            "help": "Rows in random order, each once an epoch, or drawn by difficulty: by the chance that a group of "
            "theirs has spread, which the run learns (from a row's survey_rate, where it has one).",
            "choices": ["uniform", "difficulty"],
        },
    )

    def complete(self) -> None:
        """Fill what the loss type decides, then as `RunArguments`."""
        fill_loss_defaults(self)
        super().complete()


@dataclass
class SFTArguments(RunArguments, SFTConfig):
    """TRL's SFTConfig with the defaults of `GRPOArguments`: bf16 only on CUDA, every step logged, nothing cut."""

    logging_steps: float = field(default=1, metadata={"help": "Log every so many steps."})
    max_length: int | None = field(default=None, metadata={"help": "Not used: rows are never cut."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Not used: rows are numbers."})
    dataset_kwargs: dict | None = field(
        default_factory=lambda: {"skip_prepare_dataset": True}, metadata={"help": "Not used: rows are numbers."}
    )
    padding_free: bool = field(
        default=False, metadata={"help": "Compute the rows of a batch as one sequence, without padding; exact."}
    )
    tools: list[str] | None = field(
        default=None,
        metadata={
            "help": "Tools whose list stands in each prompt, as GRPO with --tools writes it: for rows in which tools "
            "are called and answer."
        },
    )
