//! The name that somebody probably meant.

/// The one of `names` that takes the fewest slips of the keyboard to become `word`, if those are
/// few for its length. Case does not count.
pub fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    // An absurdly long word resembles nothing, and the distance takes time by the square.
    if word.len() > 64 {
        return None;
    }
    let slips = |name: &str| distance(&word, &name.to_lowercase().chars().collect::<Vec<_>>());
    let (best, slips) = names.into_iter().map(|name| (name, slips(name))).min_by_key(|n| n.1)?;
    (slips <= word.len().div_ceil(3)).then_some(best)
}

/// How many insertions, deletions, replacements and swaps of neighbours turn `a` into `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = last;
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_the_name_and_strangers_find_none() {
        let names = ["memory", "network", "pids", "cpus"];
        for (word, name) in [
            ("memroy", Some("memory")),
            ("Netwrok", Some("network")),
            ("pid", Some("pids")),
            ("cpu", Some("cpus")),
            ("banana", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), name, "{word}");
        }
    }
}
