//! Amounts as people write them: `512m`, `1.5`, `30s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Why an amount could not be read. The message names the form that is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct ParseQuantityError {
    text: String,
    expected: &'static str,
}

/// A size in bytes, never zero. Written as a whole number with an optional unit `b k m g t`
/// (powers of 1024, either case, `kb` and `kib` too), as Docker reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(u64);

impl Bytes {
    /// `n` bytes, if that is any.
    pub const fn new(n: u64) -> Option<Self> {
        if n == 0 { None } else { Some(Self(n)) }
    }

    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The size as a number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Bytes {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let err = || ParseQuantityError {
            text: text.into(),
            expected: "a size from 1 byte to 16 EiB such as 512m or 1g",
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(err()),
        };
        let number: u64 = number.parse().map_err(|_| err())?;
        match number.checked_mul(1 << shift) {
            None | Some(0) => Err(err()),
            Some(bytes) => Ok(Self(bytes)),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut unit) = (self.0, 0);
        while value % 1024 == 0 && unit < 4 {
            value /= 1024;
            unit += 1;
        }
        write!(f, "{value} {}", ["B", "KiB", "MiB", "GiB", "TiB"][unit])
    }
}

/// Processor time in thousandths of one processor, at least 10 (0.01 cpu) and at most
/// 1,000,000 (1000 cpus). Written as a decimal number such as `1.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpus(u32);

impl Cpus {
    /// `n` whole processors.
    pub const fn whole(n: u32) -> Self {
        Self(n * 1000)
    }

    /// `n` thousandths of a processor, if that is in range.
    pub const fn from_millis(n: u32) -> Option<Self> {
        if n < 10 || n > 1_000_000 { None } else { Some(Self(n)) }
    }

    /// The amount in thousandths of a processor.
    pub const fn millis(self) -> u32 {
        self.0
    }
}

impl FromStr for Cpus {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let err = || ParseQuantityError {
            text: text.into(),
            expected: "a number of processors from 0.01 to 1000 such as 0.5 or 2",
        };
        // A float's grammar also takes "inf", "nan", "1e3" and "+1"; nobody means those.
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(err());
        }
        let cpus: f64 = text.parse().map_err(|_| err())?;
        if !(0.01..=1000.0).contains(&cpus) {
            return Err(err());
        }
        Ok(Self((cpus * 1000.0).round() as u32))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

/// Reads a time span: a decimal number with the unit `ms`, `s`, `m`, `h` or `d` (a bare number
/// is seconds, as `timeout` reads it), from 1 ms to 1000 days.
pub fn parse_duration(text: &str) -> Result<Duration, ParseQuantityError> {
    let err = || ParseQuantityError {
        text: text.into(),
        expected: "a time from 1ms to 1000d such as 500ms, 30s or 1h",
    };
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(digits);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(err()),
    };
    let seconds = number.parse::<f64>().map_err(|_| err())? * seconds_per_unit;
    if !(0.001..=1000.0 * 86400.0).contains(&seconds) {
        return Err(err());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [("1", 1), ("512m", 512 << 20), ("1G", 1 << 30), ("2KiB", 2048)] {
            assert_eq!(text.parse::<Bytes>().map(Bytes::get), Ok(bytes), "{text}");
        }
        for text in ["", "0", "-1", "1.5g", "m", "1x", "99999999999g", "18446744073709551616", " 1"]
        {
            assert!(text.parse::<Bytes>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn processors_are_positive_and_finite() {
        for (text, millis) in [("1", 1000), ("0.5", 500), ("1.25", 1250), ("1000", 1_000_000)] {
            assert_eq!(text.parse::<Cpus>().map(Cpus::millis), Ok(millis), "{text}");
        }
        for text in ["", "0", "0.001", "-1", "inf", "nan", "1e3", "1001", "1.2.3", "."] {
            assert!(text.parse::<Cpus>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn times_take_a_unit() {
        for (text, millis) in [("250ms", 250), ("1.5s", 1500), ("2", 2000), ("1m", 60_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0", "0s", "-1s", "s", "1y", "1001d", "0.1ms"] {
            assert!(parse_duration(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn sizes_are_shown_in_their_largest_whole_unit() {
        assert_eq!(Bytes(512 << 20).to_string(), "512 MiB");
        assert_eq!(Bytes(1000).to_string(), "1000 B");
    }
}
