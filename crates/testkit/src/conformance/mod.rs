//! The table of what every backend does, by theme.

mod bad_input;
mod command;
mod endings;
mod files;
mod images;
mod isolation;
mod leftovers;
mod life;
mod limits;
mod modules;
mod ports;
mod report;
mod streams;
mod terminal;

use crate::{Behaviour, Matter};

/// Starts `sleep $mark` in the background of a shell, and goes on once that is what the process
/// shows: until then it is the shell's copy, with the shell's arguments.
const SLEEP: &str = "sleep $mark & until grep -aq ^sleep /proc/$!/cmdline; do :; done";

/// Every behaviour of the suite.
pub fn table() -> Vec<Behaviour> {
    let of_the_link = [endings::TABLE, streams::TABLE, command::TABLE, terminal::TABLE].concat();
    let of_a_place = [
        files::TABLE,
        isolation::TABLE,
        ports::TABLE,
        limits::TABLE,
        report::TABLE,
        leftovers::TABLE,
    ]
    .concat();
    [
        Behaviour::all_of(Matter::Link, &of_the_link),
        of_a_place,
        Behaviour::all_of(Matter::Program, bad_input::TABLE),
        images::table(),
        life::table(),
        modules::table(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bad_names, bad_promises};

    #[test]
    fn every_name_is_unique_and_in_kebab_case() {
        assert_eq!(bad_names(&table()), [""; 0]);
    }

    #[test]
    fn every_promise_is_a_sentence_without_its_full_stop() {
        assert_eq!(bad_promises(&table()), [""; 0]);
    }
}
