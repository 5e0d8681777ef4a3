"""Training of vision-language models on `Record`s: GRPO and SFT by TRL's trainers."""
