//! Claim: what needs another tool, or a feature that not every kernel has, holds where that exists; elsewhere its
//! test is shown as ignored, with the reason, and never as passed.
//!
//! A harness of our own (`common::needs::run`): libtest can't ignore a test at run time. Each test is listed here.

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod alerts;
mod calls;
mod completion;
mod dialling;
mod disk;
mod engine;
mod harness;
mod hosts;
mod https;
mod image;
mod inherited;
mod kubernetes;
mod logrotate;
mod loop_tls;
#[path = "../loop_tls/world.rs"]
#[allow(dead_code, reason = "it serves another file, too")]
mod loop_tls_world;
mod machine;
mod manual;
mod metrics;
#[path = "../metrics/world.rs"]
#[allow(dead_code, reason = "it serves another file, too")]
mod metrics_world;
mod netcat;
mod openssl;
mod page;
mod places;
mod prometheus;
mod readme;
mod syslog;
mod systemd;
mod three_hosts;
mod tls;

use std::process::ExitCode;

/// Each by its name.
macro_rules! tests {
    ($($module:ident $(::$test:ident)+,)*) => {
        &[$((concat!(stringify!($module), $("::", stringify!($test)),+), $module $(::$test)+)),*]
    };
}

fn main() -> ExitCode {
    common::needs::run(tests![
        admin::curl_gets_each_status_as_documented,
        admin::jq_reads_all_that_is_json,
        alerts::each_alert_fires_for_its_reason_and_after_its_time,
        alerts::the_example_of_a_configuration_is_valid,
        calls::a_whatsat_over_a_kept_connection_takes_the_seven_calls_that_are_documented,
        completion::bash_proposes_options_and_their_values,
        completion::each_shell_reads_its_script,
        completion::fish_proposes_options_and_their_values,
        completion::zsh_completes_options_and_their_values,
        dialling::a_name_is_looked_up_for_every_dial,
        dialling::a_name_of_twenty_addresses_is_reached_by_the_last_of_them,
        dialling::a_name_that_nobody_answers_for_is_a_reason,
        dialling::a_neighbour_that_moved_is_known_by_its_new_address_once_it_has_called,
        dialling::an_address_at_which_somebody_else_answers_does_not_keep_a_link_from_the_next,
        dialling::an_address_that_accepts_and_says_nothing_does_not_keep_a_link_from_the_next,
        dialling::an_address_that_drops_every_packet_does_not_keep_a_link_from_the_next,
        dialling::unanswered_look_ups_delay_no_other_name,
        dialling::servers_at_a_loopback_and_at_another_address_of_the_host_know_each_other,
        dialling::an_earlier_look_up_result_is_used_while_the_next_one_hangs,
        disk::a_disk_that_does_not_answer_is_reported_as_one_that_fails_and_used_on_once_it_does,
        disk::a_full_disk_gives_no_false_answers_and_is_used_on_once_it_has_room,
        disk::clients_do_not_notice_a_full_disk_where_answers_do_not_wait_for_it,
        disk::a_stop_while_the_disk_is_full_says_that_the_last_updates_are_not_in_the_state_directory,
        disk::a_disk_that_can_only_be_read_ends_a_start_with_status_2,
        disk::a_disk_that_becomes_read_only_gives_no_false_answers_and_is_used_on_after_a_restart,
        engine::acked::what_nats_has_not_acknowledged_is_answered_once_it_has,
        engine::acked::what_one_member_answers_all_members_know_and_the_bucket_holds_to_the_letter,
        engine::acked::who_waits_for_nats_for_too_long_is_disconnected_without_an_answer,
        engine::acked::with_debians_server_all_members_know_what_one_answers_as_well,
        engine::acked::with_debians_server_what_is_not_acknowledged_is_answered_once_it_is_as_well,
        engine::acked::with_debians_server_who_waits_for_too_long_is_disconnected_as_well,
        engine::bridge::a_bridge_passes_on_what_comes_from_either_side_and_says_what_it_cannot_send,
        engine::bridge::a_server_that_drains_reaches_a_host_of_its_engine_that_it_never_dialled_before,
        engine::bridge::each_loop_of_a_bridge_knows_what_its_neighbour_knows_and_the_reverse,
        engine::bridge::each_loop_of_a_server_is_a_member_and_publishes_an_update_once,
        engine::bridge::with_debians_server_a_bridge_passes_on_what_comes_from_either_side_as_well,
        engine::bridge::with_debians_server_each_loop_is_a_member_as_well,
        engine::bridge::with_debians_server_each_loop_of_a_bridge_knows_what_its_neighbour_knows_as_well,
        engine::counted::an_answer_that_is_never_given_is_counted,
        engine::counted::each_metric_of_a_member_moves_for_its_reason,
        engine::counted::messages_that_are_to_come_are_counted_while_they_do_not_come,
        engine::bucket::a_bucket_in_memory_or_with_an_age_is_used_with_a_warning,
        engine::bucket::a_bucket_that_is_restored_from_a_backup_is_repaired,
        engine::bucket::a_deleted_bucket_is_made_again_and_full_again_without_a_restart,
        engine::bucket::a_missing_bucket_that_must_not_be_made_is_waited_for,
        engine::bucket::a_value_that_is_no_update_of_its_client_is_skipped_and_can_be_overwritten,
        engine::bucket::with_debians_server_a_deleted_bucket_is_made_again_as_well,
        engine::bucket::with_debians_server_a_missing_bucket_is_waited_for_as_well,
        engine::bucket::with_debians_server_a_restored_bucket_is_repaired_as_well,
        engine::cache::a_bucket_without_allow_direct_is_refused_by_name,
        engine::cache::a_cache_that_is_killed_takes_nothing_with_it,
        engine::cache::a_client_that_an_operator_deletes_is_unknown_to_every_cache,
        engine::cache::a_member_that_keeps_all_and_one_that_keeps_a_cache_know_the_same,
        engine::cache::answers_come_in_the_order_of_their_lines_also_at_the_end_of_the_input_and_in_a_stop,
        engine::cache::as_many_clients_are_asked_for_at_once_as_there_are_connections_and_none_is_denied,
        engine::cache::the_memory_of_a_cache_is_flat_in_figures,
        engine::cache::what_a_cache_has_no_room_for_is_answered_once_the_bucket_has_it_and_never_before,
        engine::cache::what_one_cache_answers_the_others_find_and_the_bucket_holds,
        engine::cache::with_debians_server_cached_clients_are_answered_without_nats_as_well,
        engine::cache::with_debians_server_the_others_find_what_one_cache_answers_as_well,
        engine::cache::without_nats_cached_clients_are_answered_and_who_asks_for_others_is_disconnected,
        engine::crowd::updates_that_the_bucket_has_already_let_others_in_as_new_ones_do,
        engine::faults::a_cluster_of_debians_release_is_used_with_a_warning,
        engine::faults::nothing_answered_is_lost_when_a_leader_stands_still_of_a_cluster,
        engine::faults::nothing_answered_is_lost_when_leaders_and_caches_are_killed_for_a_minute,
        engine::faults::nothing_answered_is_lost_when_leaders_and_members_are_killed_for_a_minute,
        engine::faults::nothing_answered_is_lost_when_the_network_is_cut_for_a_minute,
        engine::faults::what_debians_cluster_has_lost_is_there_again_once_its_bucket_is_deleted_for_a_minute,
        engine::encrypted::tls_begins_behind_info_where_the_server_requires_it,
        engine::encrypted::loops_that_keep_caches_find_by_tls_what_any_of_them_was_told,
        engine::encrypted::tls_begins_before_info_where_both_sides_are_set_to_that,
        engine::encrypted::a_member_shows_its_certificate_where_the_server_asks_for_one,
        engine::encrypted::a_certificate_of_another_authority_name_or_time_is_refused,
        engine::encrypted::a_server_in_plain_text_is_refused_where_tls_is_asked_for,
        engine::leaving::a_restart_of_a_single_node_costs_no_answer_and_no_connection_of_a_client,
        engine::leaving::a_rolling_restart_of_a_cluster_costs_no_answer_and_no_connection_of_a_client,
        engine::leaving::with_debians_server_a_restart_costs_no_answer_and_no_connection_of_a_client,
        engine::login::a_wrong_password_is_one_error_and_a_rotated_one_is_read_again,
        engine::login::a_wrong_token_is_one_error_and_a_rotated_one_is_read_again,
        engine::login::an_nkey_proves_who_a_member_is_and_an_unknown_one_is_one_error,
        engine::login::a_login_without_credentials_is_one_error_that_names_the_settings,
        engine::login::a_file_that_holds_no_secret_is_one_error_that_names_the_file,
        engine::login::a_listener_that_does_not_speak_the_protocol_is_named_and_counted,
        engine::jwt::a_jwt_of_an_unknown_account_or_of_another_key_is_one_error,
        engine::jwt::a_jwt_that_expires_is_one_error_and_the_next_one_is_read_without_a_restart,
        engine::permissions::a_consumer_that_may_not_be_removed_is_named_at_a_reconnect,
        engine::permissions::a_look_up_that_may_not_be_made_is_named_at_a_query_and_the_leader_is_asked,
        engine::permissions::a_message_that_may_not_be_asked_for_is_named_once_a_conflict_needs_it,
        engine::permissions::flow_control_that_may_not_be_answered_is_named_once_much_is_to_be_read,
        engine::permissions::what_a_member_needs_at_once_is_named_if_it_is_not_permitted,
        engine::permissions::with_the_permissions_of_the_documents_a_member_works,
        engine::secrets::no_secret_is_written_but_in_connect,
        engine::login::a_server_that_is_too_old_is_one_error_that_names_both_versions,
        engine::login::a_server_without_jetstream_is_one_error_and_members_wait_for_it,
        engine::login::what_a_member_writes_with_a_login_is_read_with_another,
        engine::harness::a_bucket_of_one_node_is_read_written_backed_up_and_restored,
        engine::harness::a_recorder_reads_what_passes_between_members_and_nats,
        engine::harness::a_small_store_is_full_and_has_room_again,
        engine::harness::debians_server_does_the_same,
        engine::harness::three_nodes_elect_another_leader_of_the_bucket,
        engine::misfit::a_start_with_a_bucket_of_other_settings_ends_with_status_2_and_names_each,
        engine::misfit::a_herd_that_starts_with_a_bucket_of_other_settings_ends_with_status_2,
        engine::misfit::a_bucket_that_gets_other_settings_later_is_refused_and_servers_go_on,
        engine::misfit::a_bucket_of_other_settings_that_is_found_late_is_refused_and_the_server_goes_on,
        engine::moving::a_herd_moves_to_the_engine_and_back_while_clients_write_for_a_minute,
        engine::newest::the_newest_update_wins_after_a_cut_and_an_older_one_in_the_bucket_is_replaced_once,
        engine::newest::with_debians_server_the_newest_update_wins_as_well,
        engine::room::a_full_account_gives_no_false_answers_and_is_used_on_once_it_has_room,
        engine::room::a_full_bucket_gives_no_false_answers_and_is_used_on_once_it_has_room,
        engine::room::a_full_disk_gives_no_false_answers_and_is_used_on_once_it_has_room,
        engine::room::an_update_that_is_too_large_for_the_bucket_ends_who_waits_for_it_at_once,
        engine::wire::a_bucket_is_made_written_and_followed_by_hand,
        engine::wire::with_debians_server_a_bucket_is_made_written_and_followed_by_hand,
        engine::settings::the_bucket_that_is_named_is_made_and_no_other,
        engine::settings::a_connection_that_is_silent_for_two_heartbeats_is_given_up,
        engine::slow::a_hundred_reconnects_leave_one_consumer_for_each_member_for_a_minute,
        engine::slow::a_member_that_stood_still_for_8_s_and_for_15_s_goes_on_where_it_was_for_a_minute,
        harness::a_missing_tool_is_ignored_by_name_and_fails_where_it_is_required,
        hosts::a_pulled_cable_is_noticed_and_missed_updates_are_sent,
        hosts::a_server_that_listens_at_a_loopback_address_reaches_a_neighbour_on_another_host,
        hosts::late_and_lost_packets_delay_updates_and_lose_none,
        hosts::plain_text_between_hosts_is_refused_unless_it_is_allowed_and_tls_hides_every_line,
        https::curl_is_answered_in_both_apis,
        https::openssls_server_is_understood,
        https::python_is_answered,
        https::requests_in_one_segment_are_answered_in_order_and_nonsense_is_refused,
        https::a_connection_without_tls_is_closed_and_costs_nobody_anything,
        image::the_image_serves_clients_is_healthy_and_stops,
        inherited::a_log_that_another_user_has_linked_elsewhere_is_refused,
        inherited::a_signal_mask_that_is_inherited_blocks_nothing,
        inherited::signals_that_the_parent_ignored_are_handled_but_for_sighup,
        kubernetes::the_configuration_is_valid_and_names_the_pods,
        kubernetes::the_files_fit_the_schemas_and_a_wrong_type_does_not,
        kubernetes::the_herd_runs_on_three_hosts_and_answers_the_probes,
        kubernetes::the_objects_name_each_other_and_give_no_privileges,
        logrotate::no_record_is_lost_or_doubled_by_a_rotation,
        logrotate::rotations_for_a_minute,
        loop_tls::openssl_speaks_the_versions_that_a_listener_takes,
        loop_tls::socat_half_closes_by_close_notify_and_gets_the_answers_it_is_owed,
        machine::a_client_has_its_own_address_on_a_listener_for_both_families,
        machine::a_crowd_that_comes_at_once_waits_in_the_backlog,
        manual::mandoc_finds_nothing_to_warn_of,
        metrics::promtool_finds_nothing_to_improve,
        metrics::pythons_parser_reads_every_sample_of_openmetrics,
        netcat::nc_gets_its_answer_and_the_end,
        openssl::a_key_that_is_too_short_is_named,
        openssl::a_service_with_nothing_in_common_is_named,
        openssl::a_signature_of_an_unsupported_kind_is_named,
        openssl::its_self_signed_certificate_is_trusted_where_it_is_the_trusted_file,
        page::node_finds_no_mistake_in_the_scripts,
        page::nothing_is_wrong_in_three_widths_light_and_dark,
        page::a_stopped_neighbour_is_shown_as_down_and_an_update_of_another_process_moves_its_dot,
        page::the_state_directory_and_the_engine_are_shown_in_three_widths_and_a_change_is_announced,
        page::ids_of_an_attacker_are_shown_as_text,
        page::everything_is_reached_by_keyboard_and_said_in_the_accessibility_tree,
        page::the_log_is_filtered_by_level_and_can_be_held,
        page::a_server_that_was_started_again_is_shown_without_a_reload_by_hand,
        page::in_the_background_the_page_closes_its_stream_and_comes_back,
        page::without_scripts_the_tables_are_there,
        page::motion_and_colours_follow_the_operators_settings,
        page::the_heap_stays_flat,
        page::the_heap_stays_flat_for_an_hour,
        places::an_address_that_never_finishes_tls_is_asked_first_once_and_not_for_each_query,
        prometheus::it_scrapes_a_server_and_knows_what_that_has_counted,
        readme::every_block_is_run_and_what_needs_no_herd_is_as_written,
        readme::the_session_with_a_herd_is_as_written,
        syslog::jq_reads_each_line_of_the_log,
        syslog::rsyslogd_stores_each_record_with_its_level_and_its_server,
        systemd::activation_passes_the_ports_of_clients_neighbours_and_operators,
        systemd::process_metrics_are_right_where_only_processes_are_seen_in_proc,
        systemd::system_calls_are_those_that_the_unit_allows,
        systemd::unit_files_are_verified,
        systemd::unit_has_a_user_that_sysusers_makes,
        systemd::unit_is_hardened,
        systemd::unit_starts_a_server_that_is_ready_and_reloads,
        tls::no_session_can_be_resumed_where_certificates_are_asked_for,
        tls::openssl_accepts_what_make_certificates_makes,
        tls::openssls_client_is_judged_by_its_certificate,
        tls::openssls_keys_are_read_in_each_form,
        tls::openssls_server_is_a_neighbour_if_its_certificate_says_so,
        tls::socat_openssl_and_nc_are_served_as_the_settings_say,
        tls::the_commands_about_certificates_do_what_the_page_says,
        three_hosts::a_herd_moves_to_mutual_tls_while_clients_write_changes_its_authority_and_drains_without_a_lost_answer,
    ])
}
