//! Links over a stream into a real place, which the native backend boots.
//!
//! A place is booted by a process of a single thread, so this is a program of its own: each test
//! gets a place that was booted before any other thread was there.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that fails ends by a panic")]

mod commands;
mod ends;
mod figures;
mod scene;

use std::time::Instant;

use scene::Home;

type Test = (&'static str, fn(Home));

macro_rules! tests {
    ($($room:ident::$name:ident),+ $(,)?) => {
        [$((stringify!($name), $room::$name as fn(Home))),+]
    };
}

const TESTS: &[Test] = &tests![
    commands::streams_come_back_and_stay_apart,
    commands::endings_are_those_of_the_command,
    commands::a_hundred_megabytes_go_both_ways_unchanged,
    commands::each_end_of_a_stream_is_told_at_the_other,
    commands::an_end_is_told_when_all_output_is_there,
    commands::a_reader_that_stops_costs_the_others_nothing,
    commands::who_has_nothing_to_do_does_nothing,
    commands::fifty_commands_run_at_once,
    commands::a_long_order_arrives_whole,
    commands::output_and_errors_of_one_pipe_keep_their_order,
    commands::sockets_and_null_are_streams_too,
    commands::the_clients_descriptors_stay_as_they_are,
    commands::a_terminal_has_its_size_and_keeps_its_modes,
    commands::a_terminals_last_words_are_not_lost,
    commands::what_needs_descriptors_of_files_is_refused,
    ends::a_client_that_goes_takes_its_commands_along,
    ends::a_crowd_is_let_in_as_far_as_an_agent_does,
    ends::when_the_stream_is_cut_everybody_hears_of_it,
    ends::when_a_place_ends_its_last_output_is_kept,
    ends::when_an_agent_goes_its_clients_hear_of_it,
    ends::others_wait_while_a_place_is_held_and_lose_nothing,
    ends::an_inner_side_is_a_process_that_may_be_killed,
    ends::pipes_do_for_a_stream_and_clients_can_be_handed_in,
];

/// Only when asked for by its name.
const FIGURES: Test = ("figures", figures::figures);

fn main() {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(ends::INNER) {
        let agent = words.next().unwrap().into();
        return agentkernel_mux::Inner::standard(agent).unwrap().serve().unwrap();
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with('-')).collect();
    let wanted = |name: &str| words.iter().any(|word| name.contains(word.as_str()));
    let figures = wanted(FIGURES.0).then_some(FIGURES);
    let tests = TESTS.iter().filter(|(name, _)| words.is_empty() || wanted(name)).copied();
    for (name, test) in tests.chain(figures) {
        let begin = Instant::now();
        match Home::new(name) {
            Ok(home) => {
                test(home);
                println!("test {name} ... ok ({:.2} s)", begin.elapsed().as_secs_f64());
            }
            Err(why) => println!("test {name} ... skipped: {why}"),
        }
    }
}
