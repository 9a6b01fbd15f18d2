//! Lengths of time in documents.
//! In: a text with units (`500ms`, `1h 30m`), or the number and unit of a service level. Out: a [`Duration`].
//! Never: a number without a unit.

use std::time::Duration;

/// Reads a length of time such as `500ms`, `15m` or `1h 30m`.
pub fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|error| {
        format!("`{text}` is no length of time ({error}): write a number and a unit, such as 500ms, 15m or 1h")
    })
}

/// As [`parse`] reads it back.
pub fn display(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// A number of units as the standard's service levels write them: a month is 30 days, a year 365.
pub fn of(value: f64, unit: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value * seconds(unit)?).ok()
}

/// Seconds of a unit of time.
pub(crate) fn seconds(unit: &str) -> Option<f64> {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    Some(match unit.trim().to_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => MINUTE,
        "h" | "hr" | "hrs" | "hour" | "hours" => HOUR,
        "d" | "day" | "days" => DAY,
        "w" | "wk" | "week" | "weeks" => 7.0 * DAY,
        "mo" | "mon" | "month" | "months" => 30.0 * DAY,
        "quarter" | "quarters" => 91.0 * DAY,
        "y" | "yr" | "yrs" | "year" | "years" => 365.0 * DAY,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_units() {
        assert_eq!(parse(" 1h 30m "), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "5", "5 furlongs", "-5s", "m"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_take_the_units_of_service_levels() {
        assert_eq!(of(4.0, "d"), Some(Duration::from_secs(4 * 86_400)));
        assert_eq!(of(1.5, "hours"), Some(Duration::from_secs(5_400)));
        assert_eq!(of(3.0, "y"), Some(Duration::from_secs(3 * 365 * 86_400)));
        assert_eq!((of(-4.0, "d"), of(4.0, "furlongs"), of(f64::MAX, "y")), (None, None, None));
    }
}
