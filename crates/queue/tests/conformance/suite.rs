//! What every back end must do. Each test is a function over the harness; it appears once for
//! each back end, under the back end's name, or is part of one that runs all of them in turn.
//!
//! `fault_NN` are faults an earlier version of the protocol had, `hole_NN` what a model checker broke
//! it with, `rule_NN` what must always be true.

pub(crate) mod abort;
pub(crate) mod acts;
pub(crate) mod backlog;
pub(crate) mod bodies;
pub(crate) mod expiry;
pub(crate) mod faults;
pub(crate) mod hold;
pub(crate) mod holes;
pub(crate) mod journal;
pub(crate) mod lanes;
pub(crate) mod leases;
pub(crate) mod list;
pub(crate) mod outcomes;
pub(crate) mod poison;
pub(crate) mod rates;
pub(crate) mod rules;
pub(crate) mod slots;
pub(crate) mod suspensions;

/// Makes a module of one back end with every test in it. A test that is in no list is unused code.
macro_rules! suite {
    ($back_end:ident: $harness:ty) => {
        crate::suite::suite! { $back_end as each ($harness) }
    };
    // One test that runs all of them in turn on the same servers, which take long to start.
    ($back_end:ident in turn: $start:expr) => {
        crate::suite::suite! { $back_end as turn ($start) }
    };
    ($back_end:ident as $way:ident $what:tt) => {
        mod $back_end {
            crate::suite::tests! { $way $what
                faults {
                    fault_01_a_reaped_worker_claims_nothing_before_its_beat,
                    fault_02_a_known_worker_id_is_not_registered_again,
                    fault_03_empty_queues_do_not_keep_due_mail_from_a_free_slot,
                    fault_04_raising_a_limit_wakes_blocked_queues,
                    fault_05_blocked_queues_do_not_hide_active_tenants,
                    fault_06_a_lost_reply_of_next_orphans_nothing,
                    fault_07_release_repeated_frees_one_slot,
                    fault_10_a_resubmitted_enqueue_doubles_nothing,
                    fault_11_an_outage_shorter_than_a_lease_reaps_nobody,
                    fault_12_a_partly_reaped_worker_owns_nothing,
                    fault_13_tasks_that_were_not_begun_come_back_unmarked,
                }
                acts {
                    a_retried_task_is_due_at_once,
                    a_dropped_task_ends_and_leaves_the_others,
                    a_dropped_task_that_is_claimed_ends_with_its_claim,
                    a_drop_with_a_notice_enqueues_it_once,
                    an_outdated_notice_drops_nothing,
                    acts_repeated_change_nothing,
                }
                hold {
                    fault_18_a_delivery_of_a_held_task_counts,
                    a_held_task_waits_for_its_release,
                    a_task_settled_as_held_keeps_what_is_known_of_it,
                    a_claimed_task_is_held_when_its_claim_ends,
                    a_hold_of_a_claimed_task_can_be_taken_back,
                    a_held_task_of_a_dead_worker_is_held,
                    the_mark_of_a_begun_task_outlives_the_hold,
                    held_mail_expires,
                    held_mail_is_kept_where_that_is_wanted,
                    a_held_message_is_taken_back,
                }
                list {
                    pages_show_every_task_once_where_it_is,
                    a_list_is_of_one_place_tenant_or_route,
                    a_page_begins_behind_a_task_that_has_gone,
                    a_look_at_some_tasks_shows_those_that_are_there,
                    headers_come_without_contents,
                }
                poison {
                    a_task_begun_by_three_dead_workers_is_granted_alone,
                    a_task_begun_by_six_dead_workers_is_held,
                    an_overdue_begun_claim_counts_as_a_dead_workers,
                    an_outcome_ends_the_suspicion,
                    a_released_suspect_is_granted_alone,
                }
                backlog {
                    fault_15_a_promoted_queue_does_not_starve_a_backlog,
                    fault_17_a_thousand_claims_go_back_at_once,
                    tenants_share_by_tasks_not_by_queues,
                    tenants_share_by_weight,
                    a_tenant_that_comes_back_gains_nothing_by_having_left,
                    a_tenant_that_was_away_is_not_owed_its_absence,
                    few_tasks_spread_over_the_free_slots,
                    tasks_come_by_when_they_are_due,
                }
                bodies {
                    a_body_in_chunks_comes_back_as_it_was,
                    chunks_end_with_their_message,
                    a_message_that_lacks_a_chunk_is_refused,
                    chunks_of_a_message_given_up_are_dropped,
                    chunks_of_a_dead_process_are_dropped_in_time,
                    a_body_outlives_the_time_of_its_chunks,
                    chunks_stay_for_an_enqueue_that_did_not_run,
                }
                holes {
                    hole_01_late_execution_after_a_comparison,
                    hole_02_comparison_with_another_lane_in_flight,
                    hole_03_a_lost_abort_is_repeated,
                    hole_04_no_notification_about_delivered_mail,
                    hole_06_the_count_of_open_tasks_falls_only_with_a_removal,
                    hole_07_expiry_outlives_the_claim,
                    hole_08_a_beat_does_not_resurrect_a_reaped_worker,
                    hole_09_two_short_outages_reap_nobody,
                    hole_10_a_task_still_open_in_a_process_is_not_claimed_by_it,
                }
                rules {
                    rule_01_a_task_is_in_exactly_one_place,
                    rule_02_membership_is_the_fence,
                    rule_03_time_is_the_servers,
                    rule_04_repeated_calls_change_nothing,
                    rule_05_what_parks_wakes,
                    rule_06_after_all_outcomes_nothing_remains,
                    rule_07_limits_are_data_of_the_newest_generation,
                }
                outcomes {
                    a_record_lives_until_the_last_of_its_tasks,
                    a_deferral_keeps_delivered_marks,
                    hastened_tasks_of_a_route_are_due_at_once,
                    an_outcome_never_changes,
                    a_claim_that_is_kept_goes_on_with_the_others,
                    a_kept_claim_leaves_its_marks_to_whoever_takes_over,
                    a_notification_is_enqueued_exactly_once,
                    delivered_by_somebody_else_ends_a_waiting_task,
                    delivered_by_somebody_else_takes_a_recipient_from_a_waiting_task,
                    delivered_by_somebody_else_revokes_a_claim,
                    only_delivered_counts_without_the_fence,
                    settlements_of_one_task_in_one_call_run_in_order,
                    a_record_comes_back_as_it_was,
                }
                leases {
                    a_claim_that_is_not_begun_goes_back_from_a_living_worker,
                    a_begun_claim_goes_back_marked_after_its_longer_deadline,
                    the_mark_of_a_begun_task_outlives_deferrals,
                    a_late_worker_begins_nothing_and_beats_again,
                    the_next_foreign_expiry_is_told,
                    a_clock_that_jumps_reaps_nobody,
                    who_dies_when_the_clock_goes_back_is_reaped_in_time,
                }
                slots {
                    slots_of_a_site_are_never_exceeded,
                    a_released_slot_wakes_one_blocked_queue,
                    a_slot_of_a_dead_worker_is_freed_and_wakes,
                    blocked_queues_take_turns,
                    a_limit_of_zero_lets_nothing_go,
                }
                suspensions {
                    a_suspended_queue_parks_and_is_resumed,
                    a_suspension_ends_by_itself,
                    each_scope_keeps_back_its_own,
                    suspended_mail_takes_no_slot_and_no_turn,
                    suspended_mail_expires,
                    many_parked_queues_are_resumed,
                    a_suspension_may_be_changed,
                }
                rates {
                    a_rate_is_exact_over_time,
                    a_burst_goes_at_once,
                    tokens_go_by_turn,
                    an_unused_token_goes_to_whoever_waits,
                    tokens_of_the_dead_come_back_unless_begun,
                    a_changed_rate_wakes_the_queues_of_its_site,
                    a_clock_that_goes_back_does_not_stop_a_site,
                    slots_and_tokens_hold_together,
                    mail_that_waits_for_a_token_expires,
                }
                expiry {
                    mail_that_cannot_be_claimed_expires,
                    deferred_mail_expires_before_it_is_due,
                    what_expired_is_put_off_for_everybody,
                    a_claimed_task_expires_with_its_owner,
                    a_claim_by_name_takes_only_what_waits,
                    a_claim_tells_how_long_the_message_may_live,
                }
                journal {
                    the_journal_has_one_entry_for_a_call,
                    the_journal_tells_what_happened_and_once,
                    the_journal_only_grows_when_the_clock_goes_back,
                }
                abort {
                    a_waiting_message_is_taken_back,
                    a_message_claimed_here_and_not_begun_is_taken_back,
                    a_begun_message_is_not_taken_back,
                    a_message_claimed_elsewhere_is_not_taken_back,
                    a_message_settled_in_part_is_not_taken_back,
                    a_message_that_never_came_or_has_gone_is_gone,
                    an_abort_needs_no_lease,
                }
                lanes {
                    a_number_runs_once,
                    an_idle_poll_uses_no_number,
                    a_barred_call_never_runs,
                    an_older_call_cannot_be_resolved_any_more,
                    an_expired_call_runs_after_a_beat,
                    lanes_of_a_reaped_worker_are_gone,
                    all_three_parts_of_a_call_run_in_order,
                }
            }
        }
    };
}

macro_rules! tests {
    (each ($harness:ty) $($group:ident { $($test:ident),* $(,)? })*) => {$($(
        #[tokio::test]
        async fn $test() {
            let harness = <$harness as crate::harness::Harness>::start();
            crate::suite::$group::$test(harness).await;
        }
    )*)*};
    (turn ($start:expr) $($group:ident { $($test:ident),* $(,)? })*) => {
        #[tokio::test]
        async fn in_turn() {
            let first = crate::harness::Served::start_on($start);
            $($(
                println!(concat!(stringify!($group), "::", stringify!($test)));
                Box::pin(crate::suite::$group::$test(first.again())).await;
            )*)*
        }
    };
}

pub(crate) use {suite, tests};
