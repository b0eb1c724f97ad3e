"""What README and docs promise to users, and the tests that show it: each promise once, where it is made.

`tests/test_promises.py` checks both directions. What the chat has stands in docs/features.md, with its tests.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise: in short, the page that makes it, words of that page as they stand there, and the tests.

    Line breaks inside of `excerpt` are spaces. A test is "file::function", its file below `tests/`.
    """

    id: str
    sentence: str
    document: str
    excerpt: str
    tests: tuple[str, ...]


PROMISES = (
    # --- memory -------------------------------------------------------------------------------------------------------
    Promise(
        "budget-obeyed",
        "The memory that was given is never exceeded.",
        "README.md",
        "never exceeds the memory you gave it",
        (
            "memory/test_budget.py::test_the_peak_of_all_tensors_stays_within_the_plan_at_every_step",
            "memory/test_recall.py::test_budgets_hold_whatever_is_recalled",
            "worker/test_real_model.py::test_a_conversation_past_the_window_stays_within_the_budget_at_every_step",
        ),
    ),
    Promise(
        "budget-refused",
        "What does not fit is refused with the sum and a budget that works.",
        "README.md",
        "smallest budget that works",
        (
            "memory/test_budget.py::test_a_plan_is_within_its_budget_or_refused_with_one_that_works",
            "worker/test_worker.py::test_a_budget_too_small_shows_the_sum_and_one_that_works",
        ),
    ),
    Promise(
        "always-resident",
        "The system prompt, the first tokens and the recent ones always stay.",
        "README.md",
        "the recent window always stay",
        (
            "memory/test_eviction.py::test_sinks_prefix_and_recent_window_always_stay",
            "memory/test_selection.py::test_budgets_hold_and_protected_tokens_stay_whatever_is_chosen",
        ),
    ),
    Promise(
        "past-the-window",
        "A conversation goes on past the trained window of the model.",
        "README.md",
        "the chat goes on for ever",
        (
            "memory/test_reindex.py::test_positions_stay_inside_the_trained_window_for_ever",
            "worker/test_worker.py::test_a_conversation_far_past_the_window_goes_on",
        ),
    ),
    Promise(
        "recall",
        "Stored tokens that the queries at hand need become resident.",
        "README.md",
        "the stored keys are scored with the queries at hand",
        (
            "memory/test_recall.py::test_the_tokens_with_the_most_attention_are_resident",
            "memory/test_recall.py::test_recall_comes_closer_to_full_attention_than_the_latest_tokens",
        ),
    ),
    Promise(
        "full-attention",
        "Inside the trained window text that outgrew the working set is still read exactly.",
        "README.md",
        "Full attention under the budget",
        (
            "memory/test_exact.py::test_blocks_and_steps_equal_full_attention_for_any_split_over_the_tiers",
            "memory/test_exact.py::test_any_cut_into_turns_and_any_capacity_gives_the_same",
        ),
    ),
    Promise(
        "policies",
        "Every policy of the table keeps the rules and can be chosen.",
        "README.md",
        "chosen by a policy",
        (
            "memory/test_policy.py::test_every_policy_scores_every_entry_in_fp32_without_nan",
            "memory/test_eviction.py::test_equals_full_attention_with_the_same_entries_masked",
            "worker/test_worker.py::test_every_policy_can_be_chosen",
            "benchmarks/test_quality.py::test_every_policy_is_held_against_the_full_kv",
        ),
    ),
    Promise(
        "unsupported-models",
        "A kind of model that cannot be managed is refused with a sentence.",
        "README.md",
        "others are refused with a sentence",
        (
            "memory/test_geometry.py::test_what_cannot_be_managed_is_refused_with_a_sentence",
            "worker/test_worker.py::test_what_cannot_be_loaded_says_why",
        ),
    ),
    Promise(
        "episodes",
        "Turns become episodes by topic, questions go to the nearest, and the file can be read.",
        "README.md",
        "Turns are grouped by topic as they come",
        (
            "memory/test_episode.py::test_topics_become_episodes_and_questions_find_theirs",
            "memory/test_episode.py::test_it_does_not_matter_when_turns_are_observed",
            "memory/test_episode_docs.py::test_a_query_of_the_page_has_an_answer",
        ),
    ),
    Promise(
        "episodes-optional",
        "Without the embedding model there are no episodes and everything else works.",
        "docs/episodes.md",
        "questions go to none, everything else works",
        (
            "worker/test_episodes.py::test_a_broken_embedding_model_costs_the_episodes_and_nothing_else",
            "worker/test_episodes.py::test_a_budget_without_room_for_the_embedding_model_says_so",
        ),
    ),
    Promise(
        "why",
        "The episode of a question, what is like it and what the reply fetched can be looked up.",
        "README.md",
        "`assistant why` says",
        ("assistant/test_why.py::test_a_question_its_episode_and_its_sources",),
    ),
    # --- never twice --------------------------------------------------------------------------------------------------
    Promise(
        "never-twice",
        "What was read once is not read again.",
        "README.md",
        "reads the same text twice",
        (
            "memory/test_reopened.py::test_a_sealed_text_is_never_read_again",
            "worker/test_worker.py::test_the_next_turn_reads_only_what_is_new",
            "worker/test_load.py::test_nothing_is_refused_and_nothing_is_lost",
        ),
    ),
    Promise(
        "restart-resumes",
        "After a restart a conversation is restored from disk, and a receipt says so.",
        "README.md",
        "tokens reused, 0 recomputed",
        (
            "worker/test_worker.py::test_a_new_worker_reads_nothing_twice",
            "worker/test_daemon_life.py::test_sigterm_in_mid_reply_loses_nothing_and_nothing_is_read_again",
            "assistant/test_cli.py::test_a_terminal_is_told_what_resuming_took",
            "memory/test_stored.py::test_a_resumed_conversation_goes_on_bit_by_bit",
        ),
    ),
    Promise(
        "rereading-named",
        "When text is read again, the reason and the cost are said.",
        "README.md",
        "the receipt names the reason",
        (
            "assistant/test_cli.py::test_reading_again_is_said_with_its_reason_and_its_cost",
            "worker/test_worker.py::test_another_codec_is_another_fingerprint_and_the_field_is_named",
            "worker/test_forks.py::test_a_text_that_is_not_what_is_stored_is_named_by_its_first_word",
        ),
    ),
    Promise(
        "forks-read-nothing",
        "A fork or another version reads nothing that its origin has stored.",
        "docs/history.md",
        "so that nothing is read twice where its origin's KV is stored",
        (
            "worker/test_forks.py::test_a_fork_from_any_message_reads_nothing_twice",
            "worker/test_forks.py::test_an_edit_and_another_reply_read_nothing_twice",
            "worker/test_forks.py::test_a_fork_resumes_whole_after_its_origin_was_removed",
        ),
    ),
    Promise(
        "kv-is-identified",
        "A stored row is used only if everything that it depends on agrees.",
        "docs/format.md",
        "A row is used only if the fingerprint",
        (
            "memory/test_damage.py::test_the_disk_tier_serves_what_was_written_or_a_miss_and_takes_new_rows_after_that",
            "memory/test_stored.py::test_any_other_fingerprint_is_a_miss_that_names_the_field",
            "faults/test_bleed.py::test_every_answer_is_that_of_a_cold_reading",
        ),
    ),
    Promise(
        "kv-is-disposable",
        "Stored KV can be deleted while no daemon runs; it is made again.",
        "docs/format.md",
        "Everything here can be deleted at any time while no",
        (
            "memory/test_index.py::test_a_lost_index_is_rebuilt_from_the_files",
            "memory/test_disk_tier.py::test_a_lost_or_unreadable_file_is_a_miss_and_in_nobody_s_way",
            "memory/test_kept_scores.py::test_scores_that_are_lost_are_made_again",
            "worker/test_disconnects.py::test_disconnects_leave_every_conversation_as_a_cold_reading_finds_it",
        ),
    ),
    Promise(
        "format-is-documented",
        "The page on the format is enough to write a reader.",
        "docs/format.md",
        "This page is enough to write a reader",
        (
            "memory/test_format_reader.py::test_a_stranger_reads_what_the_model_computed",
            "memory/test_chunkfile.py::test_the_layout_is_that_of_the_document",
        ),
    ),
    Promise(
        "disk-quota",
        "Stored KV keeps to its disk space; what was used longest ago goes first.",
        "README.md",
        "what was used longest ago goes first",
        (
            "memory/test_disk_tier.py::test_the_conversation_used_longest_ago_gives_way_from_its_end",
            "memory/test_disk_tier.py::test_the_reserve_of_the_file_system_stays_free",
        ),
    ),
    # --- nothing lost -------------------------------------------------------------------------------------------------
    Promise(
        "kill-9",
        "A turn that was acknowledged survives a process that is killed.",
        "docs/history.md",
        "a turn that was acknowledged survives",
        (
            "assistant/test_history.py::test_no_acknowledged_turn_is_lost_by_kill_9",
            "faults/test_kills.py::test_no_kill_loses_an_acknowledged_turn_or_serves_a_wrong_chunk",
            "assistant/test_turns.py::test_a_daemon_killed_in_mid_reply",
        ),
    ),
    Promise(
        "prompts-survive",
        "A message is in the history before any model works on it.",
        "README.md",
        "in SQLite before any model work",
        (
            "assistant/test_turns.py::test_a_daemon_killed_in_mid_reply",
            "assistant/test_server_engine.py::test_a_server_that_is_down_loses_nothing",
            "tui/test_chat.py::test_text_that_cannot_be_sent_comes_back",
        ),
    ),
    Promise(
        "partials-kept",
        "What was written of a reply is kept, however it ended.",
        "README.md",
        "partial replies are check-pointed",
        (
            "assistant/test_turns.py::test_the_partial_is_checkpointed_while_the_reply_runs",
            "assistant/test_turns.py::test_stop_keeps_the_partial_reply",
            "tui/test_chat.py::test_escape_stops_and_keeps_what_was_written",
        ),
    ),
    Promise(
        "crash-costs-a-restart",
        "A crash of the model's process costs a restart, not a conversation.",
        "README.md",
        "The model lives in a child process",
        (
            "assistant/test_turns.py::test_a_crash_of_the_worker_is_told_and_the_partial_kept",
            "assistant/test_turns.py::test_kill_9_of_the_worker_twenty_times",
            "assistant/test_device.py::test_a_device_lost_in_mid_reply_costs_a_restart_and_no_text",
        ),
    ),
    Promise(
        "nothing-overwritten",
        "Edits, other replies and forks overwrite and delete nothing.",
        "docs/history.md",
        "Nothing is overwritten or deleted by any of this",
        (
            "assistant/test_tree.py::test_the_old_version_is_a_choice_away_with_all_that_followed_it",
            "assistant/test_tree_model.py::test_any_story_is_shown_as_it_went",
        ),
    ),
    Promise(
        "put-away-30-days",
        "A conversation that was put away can be restored for 30 days.",
        "docs/history.md",
        "It can be restored for 30 days",
        (
            "assistant/test_versions.py::test_what_was_put_away_comes_back_whole",
            "assistant/test_forgetting.py::test_what_was_put_away_is_purged_after_30_days",
        ),
    ),
    Promise(
        "usage-record",
        "Every reply reports what was reused, computed, resident and stored.",
        "README.md",
        "how many tokens were reused, computed, resident and stored",
        (
            "assistant/test_cli.py::test_ask_json_is_one_object_with_the_whole_usage_record",
            "worker/test_worker.py::test_pieces_add_up_to_the_reply_and_the_usage_record_is_whole",
            "test_promises.py::test_pages_on_the_usage_record_name_every_field",
        ),
    ),
    # --- commands and settings ----------------------------------------------------------------------------------------
    Promise(
        "exit-codes",
        "A command ends with the documented code.",
        "README.md",
        "0 ok · 1 run failed",
        (
            "test_promises.py::test_pages_on_exit_codes_name_every_code",
            "assistant/test_cli.py::test_what_bad_input_gets",
            "assistant/test_cli.py::test_a_signal_stops_the_reply_and_keeps_it",
            "assistant/test_turns.py::test_the_workers_refusal_comes_through",
            "agent/test_agent_command.py::test_a_run_has_limits",
        ),
    ),
    Promise(
        "exact-errors",
        "An unknown key is an error that names the nearest one, a wrong value one that names where it stands.",
        "README.md",
        "An unknown key is an error that names the nearest known one",
        (
            "assistant/test_settings.py::test_an_unknown_key_names_file_key_and_nearest",
            "assistant/test_settings.py::test_a_value_out_of_bounds_names_setting_and_origin",
            "assistant/test_catalog.py::test_a_mistake_in_a_users_catalogue_names_file_entry_and_key",
        ),
    ),
    Promise(
        "order-of-settings",
        "Flag, environment, project file, user file and default decide in this order.",
        "README.md",
        "flag > environment",
        (
            "assistant/test_settings.py::test_the_strongest_source_wins_and_is_named",
            "assistant/test_models_command.py::test_config_show_lists_every_setting_with_its_origin",
        ),
    ),
    Promise(
        "stdout-is-payload",
        "Standard output carries the payload and nothing else.",
        "README.md",
        "Standard output carries the payload only",
        (
            "assistant/test_cli.py::test_ask_streams_plain_text_and_keeps_stdout_clean",
            "assistant/test_cli.py::test_json_holds_the_error_too",
            "assistant/test_cli.py::test_what_bad_input_gets",
        ),
    ),
    Promise(
        "help",
        "Every command has help with an example.",
        "README.md",
        "`--help`, with an example",
        (
            "assistant/test_cli.py::test_help_of_every_command_has_an_example",
            "assistant/test_models_command.py::test_every_command_has_help_with_an_example",
        ),
    ),
    Promise(
        "torch-in-the-worker",
        "The app, the commands and the daemon start without torch.",
        "README.md",
        "imports torch",
        (
            "assistant/test_cli.py::test_no_command_imports_torch",
            "assistant/test_daemon.py::test_the_daemon_imports_no_torch",
            "tui/test_process.py::test_no_heavy_module_is_imported",
        ),
    ),
    Promise(
        "library-alone",
        "`memory` is of use without the program.",
        "README.md",
        "`memory` imports nothing of ours",
        (
            "memory/test_alone.py::test_the_example_of_the_package",
            "memory/test_alone.py::test_it_imports_nothing_of_the_program",
        ),
    ),
    # --- privacy and the door -----------------------------------------------------------------------------------------
    Promise(
        "private-files",
        "What is stored is readable by its owner alone.",
        "README.md",
        "mode 0600",
        (
            "assistant/test_history.py::test_files_are_private_whatever_the_umask",
            "memory/test_folder.py::test_files_and_folders_are_private_whatever_the_umask",
            "assistant/test_daemon.py::test_socket_and_folders_are_private_under_any_umask",
        ),
    ),
    Promise(
        "no-text-in-logs",
        "Logs hold no message, name, argument, header or token.",
        "docs/security.md",
        "Logs hold events, counts and kinds of exceptions",
        (
            "assistant/test_daemon.py::test_the_log_never_holds_text",
            "assistant/test_canary.py::test_no_secret_in_any_other_file",
            "assistant/test_canary.py::test_an_exception_is_logged_without_its_words",
        ),
    ),
    Promise(
        "no-text-in-metrics",
        "Metrics hold no text of a message.",
        "docs/daemon.md",
        "no text of a message is among them",
        (
            "assistant/test_metrics.py::test_no_label_holds_text",
            "assistant/test_metrics.py::test_the_page_names_every_metric_and_no_other",
        ),
    ),
    Promise(
        "removal-is-whole",
        "After a removal no byte of the text is left in any file.",
        "docs/history.md",
        "No byte of the text is left",
        (
            "assistant/test_forgetting.py::test_words_and_token_ids_are_gone_from_every_file",
            "assistant/test_history.py::test_removed_means_gone_from_every_file",
            "memory/test_folder.py::test_forgetting_leaves_no_byte_of_a_conversation",
        ),
    ),
    Promise(
        "local-only",
        "Nothing listens on TCP unless it was asked for, and then on loopback only.",
        "docs/security.md",
        "and only on a loopback address",
        (
            "assistant/test_daemon.py::test_nothing_listens_on_tcp",
            "assistant/test_abuse.py::test_nobody_listens_who_was_not_told_to",
            "assistant/test_door.py::test_nothing_but_loopback",
            "assistant/test_door.py::test_an_address_for_everyone_is_refused_with_a_sentence",
        ),
    ),
    Promise(
        "token-on-tcp",
        "Over TCP every request needs the token.",
        "docs/security.md",
        "Every request needs `Authorization: Bearer TOKEN`",
        (
            "assistant/test_door.py::test_every_route_asks_for_the_token",
            "assistant/test_door.py::test_tokens",
            "assistant/test_door.py::test_the_command_prints_it_and_rotating_shuts_the_old_one_out",
        ),
    ),
    Promise(
        "other-users",
        "Another user of the machine gets no answer at the socket.",
        "docs/security.md",
        "must be ours, or the connection is closed",
        ("assistant/test_daemon.py::test_another_user_is_shown_the_door",),
    ),
    Promise(
        "web-pages",
        "A web page, or a name that is rebound, gets in nowhere.",
        "docs/security.md",
        "no answer has CORS headers",
        (
            "assistant/test_door.py::test_origins",
            "assistant/test_door.py::test_hosts",
        ),
    ),
    Promise(
        "good-clients-do-not-wait",
        "Who sends too much, too slowly, or does not read keeps nobody waiting.",
        "docs/security.md",
        "keep a good client waiting",
        (
            "assistant/test_abuse.py::test_a_hundred_slow_connections_do_not_keep_a_good_client_waiting",
            "assistant/test_abuse.py::test_who_does_not_read_is_cut_off_and_the_reply_is_kept",
            "assistant/test_abuse.py::test_a_request_has_to_be_complete_in_time",
        ),
    ),
    Promise(
        "names-are-no-paths",
        "No name from outside leads out of its folder.",
        "docs/security.md",
        "it goes through `memory/names.py: safe_join`",
        (
            "memory/test_names.py::test_hostile_names_never_escape",
            "memory/test_names.py::test_nobody_else_joins_names",
            "assistant/test_names_api.py::test_hostile_names_of_conversations_stay_names",
        ),
    ),
    # --- the daemon's life --------------------------------------------------------------------------------------------
    Promise(
        "drain",
        "A daemon that is told to end keeps what was written and ends in a stated time.",
        "docs/daemon.md",
        "So it ends within `drain_s` + 12 s",
        (
            "assistant/test_drain.py::test_every_stream_is_told_why_it_ends",
            "assistant/test_drain.py::test_a_worker_that_does_not_leave_is_ended_after_the_stated_time",
            "assistant/test_daemon.py::test_a_worker_that_does_not_stop_is_ended_within_the_drain",
        ),
    ),
    Promise(
        "disconnects",
        "Who goes away in mid-stream stops the reply at the token that is being computed.",
        "docs/daemon.md",
        "the token that is being computed is the last one",
        (
            "worker/test_disconnects.py::test_the_token_that_is_being_computed_is_the_last_one",
            "assistant/test_turns.py::test_a_client_that_goes_away_cancels",
            "assistant/test_detach.py::test_a_detached_reply_goes_on_without_its_client",
        ),
    ),
    # --- the api ------------------------------------------------------------------------------------------------------
    Promise(
        "openai-clients",
        "Programs made for OpenAI's API work with the base URL changed.",
        "docs/api.md",
        "work with the base URL changed",
        (
            "assistant/v1/test_chat.py::test_a_reply_with_its_usage",
            "assistant/v1/test_responses.py::test_it_goes_on_from_an_id",
            "assistant/v1/test_llm.py::test_a_conversation",
        ),
    ),
    Promise(
        "api-never-twice",
        "What a client sends again is not read again.",
        "README.md",
        "what a client sends again is not read again",
        (
            "assistant/v1/test_reuse.py::test_what_was_sent_before_is_not_read_again",
            "assistant/v1/test_reuse.py::test_a_restart_costs_nothing_but_what_lies_on_disk",
            "worker/test_api_requests.py::test_a_document_of_another_conversation_is_not_read_again",
        ),
    ),
    Promise(
        "chats-do-not-share",
        "Conversations of the chat never look at others.",
        "docs/api.md",
        "Conversations of the chat never look at others",
        (
            "memory/test_shared_rows.py::test_a_conversation_that_does_not_share_sees_no_other",
            "memory/test_stored.py::test_conversations_share_nothing",
        ),
    ),
    Promise(
        "api-refusals",
        "What the API cannot do is refused with a sentence and the name of the field.",
        "docs/api.md",
        "With a sentence and the name of the field",
        (
            "assistant/v1/test_chat.py::test_what_cannot_be_done_is_refused_by_name",
            "assistant/v1/test_responses.py::test_what_cannot_be_done_is_refused_by_name",
            "assistant/test_openapi.py::test_every_number_out_of_range_is_422",
        ),
    ),
    Promise(
        "prompts-are-not-cut",
        "A prompt is never cut; what must stay and cannot is refused with the numbers.",
        "docs/api.md",
        "A long prompt is never cut",
        (
            "worker/test_api_requests.py::test_a_system_prompt_that_does_not_fit_says_its_numbers",
            "assistant/v1/test_chat.py::test_what_ends_before_the_first_word_has_its_status",
        ),
    ),
    Promise(
        "served-models",
        "A model on a server loses no text when the server fails, and its key is told nobody.",
        "docs/server.md",
        "The question is in the history by then",
        (
            "assistant/test_server_engine.py::test_a_server_that_is_down_loses_nothing",
            "served/test_upstream.py::test_refusals_are_sentences",
            "served/test_upstream.py::test_a_server_that_quotes_the_key_does_not_get_it_into_the_sentence",
        ),
    ),
    # --- agents -------------------------------------------------------------------------------------------------------
    Promise(
        "calls-parse",
        "A call that a model begins can be read, whatever the model.",
        "README.md",
        "calls held to their schemas while they are written",
        (
            "worker/test_grammar.py::test_no_reply_at_all_is_unreadable",
            "worker/test_grammar.py::test_a_call_that_anybody_begins_can_be_made",
            "agent/test_formats.py::test_whatever_is_written_a_call_that_comes_out_fits_its_schema",
            "assistant/v1/test_reuse.py::test_a_model_that_knows_nothing_calls_what_it_must_and_answers_as_it_must",
        ),
    ),
    Promise(
        "no-call-twice",
        "A run that was killed is resumed without making a call twice.",
        "docs/agents.md",
        "resumed without making any call twice",
        (
            "agent/test_agent_command.py::test_a_run_that_is_killed_in_mid_call_goes_on_without_repeating_it",
            "assistant/test_programs.py::test_a_call_that_ran_when_everything_died_is_not_repeated",
        ),
    ),
    Promise(
        "changed-tools",
        "A tool that changed since it was approved must be approved again.",
        "docs/agents.md",
        "the tool must be approved again",
        (
            "agent/test_agent_command.py::test_a_tool_that_changed_must_be_looked_at",
            "agent/test_mcp.py::test_a_server_that_describes_its_tool_otherwise_must_be_looked_at",
            "agent/test_approval.py::test_a_changed_definition_voids_the_approval_and_says_what_changed",
        ),
    ),
    Promise(
        "fresh-yes",
        "Where private data, untrusted content and a way out meet, a person is asked.",
        "docs/agents.md",
        "only a person's fresh yes will do",
        (
            "agent/test_approval.py::test_the_table_of_private_data_untrusted_content_and_a_way_out",
            "agent/test_untrusted.py::test_an_obeying_model_gets_nothing_done_headless",
        ),
    ),
    Promise(
        "sandbox",
        "Tools run behind walls; without walls those that write or execute are off.",
        "docs/agents.md",
        "tools that can write or execute are off",
        (
            "agent/test_escapes.py::test_no_attempt_gets_out",
            "agent/test_sandbox.py::test_without_any_tools_that_write_or_execute_are_off_and_it_is_said",
            "agent/test_sandbox.py::test_the_limitations_are_written_down",
        ),
    ),
    Promise(
        "network-by-declaration",
        "Only a tool that declares that it sends has a network.",
        "docs/agents.md",
        "Only `can_send=True` gives it a network",
        (
            "agent/test_results.py::test_only_a_tool_that_asked_for_it_has_a_network",
            "agent/test_builtin.py::test_code_has_no_network",
        ),
    ),
    Promise(
        "results-are-data",
        "What a tool returns cannot forge the frame that marks it as data.",
        "docs/agents.md",
        "a frame that cannot be forged from inside",
        (
            "agent/test_untrusted.py::test_any_text_from_anywhere_stays_in_its_frame",
            "agent/test_untrusted.py::test_hostile_output_writes_no_control_token",
        ),
    ),
    Promise(
        "working-sets-survive-calls",
        "While a tool runs its program stays on the device; the next step reads what is new.",
        "docs/agents.md",
        "What leaves is on disk and is brought back, not read again",
        (
            "worker/test_calling.py::test_a_step_after_a_tool_reads_only_the_result",
            "memory/test_pins.py::test_a_pinned_set_stays_while_another_can_leave",
            "memory/test_pins.py::test_a_set_that_comes_back_from_disk_is_whole_though_others_wait",
        ),
    ),
    Promise(
        "nobody-starves",
        "Who has waited longest gets a turn, whatever comes.",
        "docs/agents.md",
        "one in eight goes to whoever has waited longest",
        (
            "assistant/test_order.py::test_nothing_starves_whatever_arrives",
            "assistant/test_order.py::test_an_overdue_job_goes_before_a_chat_but_only_one_in_so_many",
        ),
    ),
    Promise(
        "one-home",
        "ASSISTANT_HOME holds everything that is written.",
        "README.md",
        "`ASSISTANT_HOME` moves all of it under one folder",
        ("assistant/test_outside.py::test_with_a_home_of_its_own_it_writes_nowhere_else",),
    ),
    Promise(
        "no-downloads",
        "Models are fetched by commands alone, never by the daemon.",
        "docs/security.md",
        "The daemon downloads nothing",
        ("assistant/test_outside.py::test_the_daemon_downloads_nothing",),
    ),
)
