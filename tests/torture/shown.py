"""Faults whose trial is a test of pytest: runs those tests, and gathers which fault each shows.

    python tests/torture/shown.py OUT

Damaged checkpoints, two runs in a folder, silent failures, secrets, ranks that share a cache, files that cannot be
written. The figure is what pytest says of the tests named. Takes about three minutes.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # nosec B405 # pytest's own report

from rows import Row, write

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fault:
    """`tests` are functions of `file`, a test module below `tests`, without its ending."""

    fault: str
    happens: str
    file: str
    tests: tuple[str, ...]


FAULTS = [
    Fault(
        "a checkpoint lacks a file, holds another byte, is cut or longer",
        "left out with what is wrong, or refused before a model is loaded; never picked up silently",
        "trainer/test_checkpoints",
        ("a_damaged_checkpoint_is_left_out_with_what_is_wrong", "a_manifest_that_is_none_is_a_damage"),
    ),
    Fault(
        "two runs in one output folder",
        "the second is refused with the first one's process and machine",
        "trainer/test_checkpoints",
        ("a_folder_has_one_run_at_a_time", "a_run_into_a_folder_in_use_is_refused_before_a_model_is_loaded"),
    ),
    Fault(
        "a checkpoint's time lies in the future, with --save_total_limit 1; damaged, linked and higher ones beside it",
        "old ones are deleted by step and manifest: the newest whole one, the one just written and the best one stay",
        "trainer/test_rotation",
        ("times_play_no_part", "of_any_folder_the_promises_hold", "the_best_checkpoint_stays_as_in_transformers"),
    ),
    Fault(
        "SIGTERM in an evaluation, a log write, a save, a rollout, a reward, between epochs, before the first step",
        "the last finished step is saved, and the run goes on exactly; before the first one that is said",
        "trainer/test_stopped_phases",
        ("whatever_is_broken_off_the_run_goes_on_exactly", "before_the_first_step_there_is_nothing_to_save"),
    ),
    Fault(
        "the output folder is renamed, replaced or deleted under a run",
        "the run ends with that sentence, and its checkpoint lies where the folder is now",
        "trainer/test_stopped_phases",
        ("a_folder_that_is_moved_under_a_run_ends_it_with_a_checkpoint_there",),
    ),
    Fault(
        "a run is resumed with other flags, ranks, data, pictures, rewards, processor, template, base weights",
        "refused with the difference before a model is loaded; --resume_changed allows files by kind and records it",
        "trainer/test_identity",
        ("what_differs_is_refused_by_name", "a_changed_file_is_allowed_by_its_kind_and_recorded"),
    ),
    Fault(
        "a JSONL file is edited, swapped, moved or deleted under a run, its size and time set back or not",
        "an error at the next row that is read, with the file's name",
        "data/test_jsonl_dataset",
        ("a_file_edited_while_it_is_read_is_refused_at_the_next_access",),
    ),
    Fault(
        "under ZeRO-3 one of two ranks raises in a reward or a step, lacks a picture, is killed, is stopped (SIGSTOP)",
        "all ranks end in time; the newest checkpoint is whole",
        "trainer/test_survival",
        ("under_zero3_a_fault_of_one_rank_ends_all_in_time_with_a_whole_checkpoint",),
    ),
    Fault(
        "SIGKILL in the first save",
        "--resume_from_checkpoint auto begins anew, and removes what was half written",
        "trainer/test_survival",
        ("a_kill_in_the_first_save_leaves_a_run_to_begin_anew",),
    ),
    Fault(
        "a user's reward starts programs",
        "they end with its worker: at a deadline, in a crash, with the run, also where that is killed",
        "rewards/test_custom_rewards",
        ("a_program_that_a_reward_started_ends_with_its_worker", "no_worker_outlives_a_run_that_was_killed"),
    ),
    Fault(
        "a new run in the folder of an earlier one",
        "the earlier one's logs go to earlier/1, all or none of them; its checkpoints stay",
        "trainer/test_archive_logs",
        (
            "three_runs_in_a_folder_are_three_runs_to_the_report",
            "a_move_that_fails_says_so_and_leaves_all_as_it_was",
        ),
    ),
    Fault(
        "four ranks start on a large file that nobody has validated",
        "one validates, the others wait for its index; where it is killed the next one does",
        "data/test_build_lock",
        (
            "one_of_four_ranks_validates_and_three_wait_for_its_index",
            "where_the_validating_rank_is_killed_the_next_one_validates",
        ),
    ),
    Fault(
        "no room for metrics, curves, report or rollouts; a line cut by a kill",
        "the run goes on with one warning, metrics wait in memory; cut lines are healed",
        "trainer/test_long_runs",
        (
            "metrics_wait_for_room_and_are_said_to_once",
            "a_full_disk_costs_curves_and_report_and_not_the_run",
            "a_line_that_a_kill_cut_is_healed_by_a_resumed_run",
        ),
    ),
    Fault(
        "a trained weight does not move: no gradient, or lost in rounding",
        "one warning with names, reason and remedy; where nothing moves the run ends",
        "trainer/test_weight_updates",
        (
            "weights_without_gradient_are_named_once_with_the_reason",
            "a_weight_whose_gradient_is_lost_in_rounding_is_told_apart",
            "a_run_in_which_nothing_can_move_ends",
        ),
    ),
    Fault(
        "NaN or infinity in loss or gradient",
        "ends before the weights are touched, with rows and a checkpoint; --on_nonfinite skip leaves the step out, "
        "counted, at most ten in a row",
        "trainer/test_nonfinite",
        (
            "a_run_stops_before_its_weights_are_touched",
            "skipped_steps_leave_weights_and_moments_alone",
            "ten_skipped_steps_in_a_row_stop",
            "a_stopped_grpo_run_leaves_the_last_good_step_and_goes_on_from_it",
        ),
    ),
    Fault(
        "a chat template drops pictures; a completion holds an image token",
        "an error that names the row, and the remedy",
        "rollout/test_image_tokens",
        ("a_template_that_drops_pictures_is_named_with_the_row", "a_ban_that_did_not_act_ends_the_run"),
    ),
    Fault(
        "rollouts of another model than the one trained",
        "the run ends at the first rollout with the difference of log-probs",
        "rollout/test_rollout_agreement",
        ("a_rollout_of_another_model_ends_the_run",),
    ),
    Fault(
        "prompts over the model's context",
        "refused before training with their count and places, never cut",
        "data/test_prompt_length",
        ("prompts_over_the_context_are_refused_without_any_flag",),
    ),
    Fault(
        "rewards without variance",
        "one warning with the remedy, in the report too",
        "trainer/test_health",
        ("rewards_without_variance_are_warned_of_once",),
    ),
    Fault(
        "keys and passwords in environment, addresses and flags",
        "in no byte of the output folder, of logs or of reports",
        "hostile/test_secrets",
        (
            "nothing_that_a_run_writes_or_says_holds_a_secret",
            "nothing_that_an_evaluation_and_a_failed_start_say_holds_a_secret",
        ),
    ),
    Fault(
        "pickles that run code, in checkpoints and models of others; models with code of their own",
        "nothing runs; code of a model needs --trust_remote_code",
        "hostile/test_foreign_checkpoints",
        (
            "weights_in_bin_files_are_read_as_weights",
            "a_state_that_somebody_else_put_into_a_checkpoint_runs_nothing",
            "files_of_deepspeed_run_nothing",
            "code_that_comes_with_a_model_does_not_run",
        ),
    ),
    Fault(
        "HTML and Markdown in texts, names and ids",
        "shown as text by report, model card and demo",
        "hostile/test_hostile_names",
        ("",),
    ),
]


def run(selectors: Sequence[str], out: Path) -> dict[tuple[str, str], list[float | None]]:
    """(module, function) -> seconds of each of its cases that passed, None for one that did not."""
    report = out / "shown.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run([*command, *dict.fromkeys(selectors)], cwd=REPO)  # what failed stands in the report
    found: dict[tuple[str, str], list[float | None]] = {}
    for case in ElementTree.parse(report).iter("testcase"):  # nosec B314 # pytest's own report
        name = case.attrib["name"].partition("[")[0]
        seconds = float(case.attrib["time"]) if len(case.findall("*")) == len(case.findall("system-*")) else None
        found.setdefault((case.attrib["classname"].rpartition(".")[2], name), []).append(seconds)
    return found


def main() -> None:
    out = Path(sys.argv[1]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    selectors = [f"tests/{f.file}.py" + (f"::test_{test}" if test else "") for f in FAULTS for test in f.tests]
    found, rows, broken = run(selectors, out), [], []
    for fault in FAULTS:
        mine = [
            cases for (module, name), cases in found.items() if module == Path(fault.file).name and chosen(name, fault)
        ]
        times = [seconds for cases in mine for seconds in cases]
        passed = [seconds for seconds in times if seconds is not None]
        if len(passed) < len(times) or len(mine) < len(fault.tests):
            broken.append(fault.fault)
        names = ", ".join(f"test_{test}" for test in fault.tests if test)
        figure = f"{len(passed)} of {len(times)} cases passed in {sum(passed):.0f} s"
        rows.append(Row(fault.fault, fault.happens, f"tests/{fault.file}.py{'::' * bool(names)}{names}", figure))
    write(out, "shown", rows)
    if broken:
        sys.exit(f"not shown: {broken}")


def chosen(name: str, fault: Fault) -> bool:
    return fault.tests == ("",) or name.removeprefix("test_") in fault.tests


if __name__ == "__main__":
    main()
