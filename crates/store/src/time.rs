//! Times as they are stored: to the millisecond, of the system's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, negative before.
pub(crate) fn to_millis(time: SystemTime) -> i64 {
    let clamp = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => clamp(after),
        Err(before) => -clamp(before.duration()),
    }
}

/// `None` for a time that the system can't represent.
pub(crate) fn from_millis(millis: i64) -> Option<SystemTime> {
    let span = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) }
}

/// The time in UTC as RFC 3339 has it, such as `2026-11-25T03:11:12.345Z`. Texts of the years 0
/// to 9999 are in order as the times are; other years become the nearest of these.
pub fn to_text(time: SystemTime) -> String {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_300_799_999;
    let millis = to_millis(time).clamp(FIRST, LAST);
    let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = date(days);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Reads a time as [`to_text`] writes it. The milliseconds may be left out, the seconds, and all
/// of the time of day.
pub fn from_text(text: &str) -> Option<SystemTime> {
    let (day, time) = match text.split_once('T') {
        Some((day, time)) => (day, time.strip_suffix('Z')?),
        None => (text, "00:00"),
    };
    let [year, month, day] = numbers(day, '-', [4, 2, 2])?;
    let (time, millis) = match time.split_once('.') {
        Some((time, millis)) => (time, numbers(millis, '.', [3])?[0]),
        None => (time, 0),
    };
    let [hour, minute, second] = match numbers(time, ':', [2, 2]) {
        Some([hour, minute]) => [hour, minute, 0],
        None => numbers(time, ':', [2, 2, 2])?,
    };
    let days = days(year, month, day);
    // What is no day of the calendar becomes another one.
    let is_time = hour < 24 && minute < 60 && second < 60;
    if date(days) != (year, month, day) || !is_time {
        return None;
    }
    from_millis(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis)
}

/// As many numbers as there are lengths, each of so many digits, with `between` between them.
fn numbers<const N: usize>(text: &str, between: char, lengths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut all = [0; N];
    for (number, length) in all.iter_mut().zip(lengths) {
        let part = parts.next().filter(|part| part.len() == length)?;
        *number = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(all)
}

/// The number of days since 1970-01-01; [`date`] the other way round, also after Hinnant.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970-01-01. After Howard Hinnant, "chrono-
/// Compatible Low-Level Date Algorithms", `civil_from_days`: years that start in March have
/// their leap day last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_everybody_writes_them() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
            (-62_167_219_200_001, "0000-01-01T00:00:00.000Z"),
        ] {
            let time = from_millis(millis).unwrap_or(UNIX_EPOCH);
            assert_eq!(to_text(time), text, "{millis}");
            assert_eq!(to_millis(time), millis);
            if millis.abs() < i64::MAX / 2 && millis > -62_167_219_200_001 {
                assert_eq!(from_text(text), Some(time), "{text}");
            }
        }
    }

    #[test]
    fn a_time_may_be_read_in_part_but_not_guessed() {
        for (text, whole) in [
            ("2000-02-29", "2000-02-29T00:00:00.000Z"),
            ("2000-02-29T23:59Z", "2000-02-29T23:59:00.000Z"),
            ("2000-02-29T23:59:58Z", "2000-02-29T23:59:58.000Z"),
        ] {
            assert_eq!(from_text(text).map(to_text).as_deref(), Some(whole));
        }
        for text in [
            "",
            "2000",
            "2000-02",
            "2001-02-29",
            "2000-13-01",
            "2000-00-01",
            "2000-01-00",
            "2000-01-01T24:00Z",
            "2000-01-01T00:60Z",
            "2000-01-01T00:00",
            "2000-01-01 00:00Z",
            "2000-01-01T00:00:00.1Z",
            "+200-01-01",
            "2000-1-01",
            "2000-01-01-01",
        ] {
            assert_eq!(from_text(text), None, "{text:?} was taken");
        }
    }
}
