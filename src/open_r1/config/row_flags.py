"""Refuses ways of choosing training rows that could not act as they are set."""

from open_r1.config.training_arguments import GRPOArguments


def check_row_choice(training: GRPOArguments) -> None:
    """Refuse ways of choosing rows that could not act. Raises ValueError."""
    times, by_difficulty = training.resample_zero_variance, training.row_sampling == "difficulty"
    if (kept := training.keep_whole_steps) < 0:
        raise ValueError(f"--keep_whole_steps: got {kept}, expected a number of steps, or 0 for none")
    if times < 0:
        raise ValueError(f"--resample_zero_variance: got {times}, expected a number of times, or 0 for never")
    flag = "--resample_zero_variance" if times else "--row_sampling difficulty" if by_difficulty else ""
    if flag and training.rollout_ahead:
        raise ValueError(
            f"--rollout_ahead: got 1 with {flag}, which chooses rows by the rewards of those before, when the next "
            "completions are begun already; leave one of the two out"
        )
    if by_difficulty and not training.shuffle_dataset:
        raise ValueError(
            "--shuffle_dataset: got false with --row_sampling difficulty, which draws rows and keeps no order; leave "
            "one of the two out"
        )
