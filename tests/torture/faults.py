"""Faults of the trial `shown.py`: what happens, and the tests that show it."""

from dataclasses import dataclass


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
        "a run that replaces groups without spread and draws rows by difficulty ends after any step, and in a rollout",
        "it goes on exactly: what it learned of rows is in the checkpoint, and of a broken-off step taken back",
        "trainer/test_resampling",
        (
            "a_resumed_run_with_both_options_ends_as_the_undisturbed_one",
            "from_inside_and_between_windows_with_both_options",
            "a_generation_that_dies_between_its_rounds_is_taken_back",
        ),
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
    Fault(
        "a model's generation configuration cannot act as it stands, or holds odd values",
        "what cannot act is left out of what is saved, and said; odd values are refused by file and key at the start",
        "models/test_generation_defaults",
        (
            "what_cannot_act_is_left_out_and_the_rest_is_kept",
            "odd_values_are_refused_by_file_and_key",
            "values_of_an_old_config_json_do_not_end_a_save",
        ),
    ),
    Fault(
        "a side file of a save fails: processor, generation configuration, report",
        "weights are written first; the file is named, and the run and its checkpoints go on",
        "models/test_saving",
        (
            "a_side_file_that_fails_costs_no_weights_and_is_named",
            "a_checkpoint_without_a_side_file_is_whole_and_resumed",
            "a_run_that_could_not_save_is_refused_at_its_start",
            "a_run_on_a_model_with_odd_defaults_ends_with_a_model_that_generates",
        ),
    ),
    Fault(
        "a model brings ways of sampling: no_repeat_ngram_size, min_new_tokens, num_beams, bad words, penalties",
        "rollouts and evaluations go by the flags alone; what it brings is said once and saved as it was",
        "models/test_generation_defaults",
        (
            "each_field_can_be_saved_and_has_no_effect_here",
            "a_familys_rollouts_are_those_of_the_flags_alone",
            "the_trainer_samples_by_its_flags_and_saves_what_the_model_brought",
            "an_evaluation_answers_by_its_flags",
        ),
    ),
    Fault(
        "a model lacks tensors, has them in other shapes, has foreign ones, NaN or infinity, or cut files",
        "refused by name in training, SFT, evaluation, answers, merge and demo; tied heads and all families pass",
        "models/test_weights",
        (
            "weights_that_are_not_the_models_are_refused_by_name",
            "every_door_refuses_them",
            "an_adapter_that_is_not_whole_or_does_not_fit_is_refused",
            "no_good_model_of_a_family_is_refused_and_each_lost_tensor_is",
        ),
    ),
    Fault(
        "a text of a row, a tool or a judge holds control tokens: turns, image and video marks",
        "refused in every style of template, also where a tokenizer would make one of other letters",
        "data/test_control_tokens",
        (
            "every_mark_of_a_style_is_refused_wherever_it_stands",
            "what_a_tokenizer_normalizes_into_a_token_is_refused",
            "what_passes_has_no_control_token_for_the_tokenizer",
            "ordinary_texts_pass_in_every_style",
        ),
    ),
    Fault(
        "a row that the processor cannot take; an error, or StopIteration, in a loader; an epoch that ends early",
        "an error with the row's line, before a model is loaded where it can be known; the doctor names it too",
        "data/test_row_errors",
        (
            "training_refuses_the_row_before_a_model_is_loaded",
            "the_doctor_names_the_row_with_a_model_alone",
            "an_error_in_a_prompt_names_its_row",
            "an_error_in_a_batch_names_its_rows",
            "an_epoch_that_ends_before_its_length_is_an_error",
        ),
    ),
    Fault(
        "a reward returns a dict, a huge integer, 1e308, NaN, a text, too few; it changes its arguments",
        "numbers within the bound count; all else ends the run with its row, and no other reward or row is changed",
        "rewards/test_odd_rewards",
        (
            "numbers_of_every_kind_count",
            "what_is_no_bounded_number_stops_the_run_with_its_row",
            "a_batch_without_one_value_a_completion_stops_the_run",
            "a_reward_that_changes_its_arguments_changes_no_other_reward_or_row",
        ),
    ),
    Fault(
        "a flag that cannot act: at all, without another flag, or with the optimizer chosen",
        "refused in one sentence before anything is loaded",
        "config/test_idle_flags",
        (
            "what_cannot_act_in_grpo_is_refused_through_the_script",
            "what_cannot_act_in_sft_is_refused_through_the_script",
            "each_condition_refuses_where_it_does_not_hold_and_only_there",
        ),
    ),
    Fault(
        "a field of the argument classes that no code reads, such as one of a new release of TRL",
        "found by a walk over all fields: each is read, refused, or declared with a reason",
        "config/test_every_flag_acts",
        ("every_flag_that_a_script_takes_is_read_or_declared", "every_field_is_taken_or_refused_with_a_reason"),
    ),
    Fault(
        "a chat template, a tokenizer's pattern or an adapter's pattern of modules that does not end",
        "refused at its deadline, with its file; it runs in a process of its own",
        "models/test_processor_check",
        (
            "a_template_that_does_not_end_is_refused_in_time",
            "a_tokenizer_whose_pattern_does_not_end_is_refused_in_time",
            "a_pattern_of_an_adapter_that_does_not_end_is_refused_in_time",
            "a_pattern_of_a_flag_is_refused_in_time",
        ),
    ),
    Fault(
        "processors and configurations with zeros, negative sizes, NaN, broken JSON, errors in the template",
        "one sentence with file, key or line, before a model is loaded",
        "models/test_processor_check",
        (
            "a_number_of_the_image_processor_that_cannot_be_is_refused",
            "odd_settings_of_pictures_are_one_sentence",
            "a_template_that_fails_is_named_with_its_line",
            "odd_configurations_are_one_sentence",
            "files_that_are_no_json_objects_are_one_sentence",
        ),
    ),
    Fault(
        "no room on the disk at the start; an output folder that is a file or cannot be written",
        "one sentence with the folder, before a model is loaded",
        "trainer/test_start",
        ("a_disk_without_room_is_refused_in_one_sentence", "a_place_that_is_no_folder_is_refused_in_one_sentence"),
    ),
    Fault(
        "a recipe.json with odd values, or that is none",
        "one sentence with file and key",
        "tasks/test_recipe",
        ("an_odd_value_is_refused_by_file_and_key", "what_is_no_recipe_is_refused_by_file"),
    ),
    Fault(
        "the demo's API is sent megabytes, huge pictures, odd types, marks, other origins, 200 joins",
        "limits stand at the server, before anything is computed; an answer ends in the stated time, others get turns",
        "evaluation/test_demo_api",
        (
            "what_no_page_would_send_is_refused_in_a_sentence",
            "every_endpoint_answers_odd_bodies_in_a_sentence",
            "pictures_are_counted_by_number_and_pixels_before_they_are_decoded",
            "200_joins_of_one_visitor_leave_room_for_others",
            "an_answer_ends_after_the_stated_time",
            "an_origin_is_the_pages_scheme_host_and_port",
            "probes_of_files_and_folders_find_nothing",
        ),
    ),
]
