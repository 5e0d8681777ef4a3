"""Answers that stand in several tables of other projects' names."""

NO_COUNTERPART = "it has no counterpart here; remove it"
ONE_ALGORITHM = "remove it: GRPO is what these scripts compute, without a critic"
DATA = "--data_file_paths FILE.jsonl --image_folders FOLDER of grpo_jsonl.py, or --dataset_name of grpo.py"
HELD_OUT = "--val_split_ratio with --eval_strategy steps of grpo_jsonl.py, --dataset_test_split of grpo.py, or \
eval/evaluate.py afterwards"
FIELD_NAMES = "--fields of grpo_jsonl.py, or --columns of grpo.py, such as problem=KEY,solution=KEY"
STEP_BATCH = "a step has --per_device_train_batch_size x ranks x --gradient_accumulation_steps completions; set these"
LONG_PROMPTS = "remove it: rows longer than --max_prompt_length are refused by name, never cut"
WARMUP = "--warmup_steps"  # of transformers 5: a number below 1 is a share of the steps
LORA = "--use_peft true --lora_r 16 for LoRA; leave both out to train all weights"
VLLM = "--use_vllm true --vllm_mode colocate"
OFFLOAD = "--deepspeed local_scripts/zero3_offload.json"
OWN_REWARD = "--reward_funcs path/to/file.py:function"
GPUS = "remove it: NPROC=8 before the command of a recipe says so (NPROC=8 bash run_scripts/run_grpo_jsonl.sh)"
NODES = "remove it: NNODES, NODE_RANK and MASTER_ADDR before the command of a recipe say so"
TRACKER = "--report_to wandb"
PROJECT_NAME = "remove it: WANDB_PROJECT=name in the environment says so"
KL_IN_LOSS = "remove it: the KL term stands in the loss, and --beta is its weight (0: none)"
KL_FORM = "remove it: the KL term is the low-variance estimate, corrected for the policy's lag unless \
--use_bias_correction_kl false"
TEMPLATE = "remove it: the chat template is the model's own"
QUANTIZED = "remove it: weights are never quantized here; --use_peft true --dtype bfloat16 needs little memory"
