//! Dates and times of fixed width, after a pattern like `YYYYMMDDhhmmss`.

use jiff::civil::DateTime;

use crate::error::Fault;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Four digits.
    Year,
    /// Two digits of the years 2000 to 2099.
    ShortYear,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// `-`, `/`, `:`, `.`, `T` or a space.
    Sign(u8),
}

impl Part {
    const fn width(self) -> usize {
        match self {
            Self::Year => 4,
            Self::Sign(_) => 1,
            _ => 2,
        }
    }
}

/// A pattern: each part at most once, year, month and day in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pattern: String,
    parts: Vec<Part>,
}

impl Stamp {
    pub(super) fn parse(pattern: &str) -> Result<Self, &'static str> {
        const NAMES: [(&str, Part); 7] = [
            ("YYYY", Part::Year),
            ("YY", Part::ShortYear),
            ("MM", Part::Month),
            ("DD", Part::Day),
            ("hh", Part::Hour),
            ("mm", Part::Minute),
            ("ss", Part::Second),
        ];
        let (mut parts, mut rest) = (Vec::new(), pattern);
        while let Some(&byte) = rest.as_bytes().first() {
            let named = NAMES.iter().find_map(|(name, part)| Some((*part, rest.strip_prefix(name)?)));
            let signed = || b"-/:. T".contains(&byte).then(|| (Part::Sign(byte), &rest[1..]));
            let (part, next) = named
                .or_else(signed)
                .ok_or("the format has other parts than YYYY, YY, MM, DD, hh, mm, ss")?;
            if !matches!(part, Part::Sign(_)) && parts.contains(&part) {
                return Err("the format has a part twice");
            }
            parts.push(part);
            rest = next;
        }
        let has = |part| usize::from(parts.contains(&part));
        if has(Part::Year) + has(Part::ShortYear) != 1 || has(Part::Month) + has(Part::Day) != 2 {
            return Err("the format needs one year, a month and a day");
        }
        Ok(Self { pattern: pattern.to_owned(), parts })
    }

    pub(super) fn width(&self) -> usize {
        self.parts.iter().map(|part| part.width()).sum()
    }

    fn fault(&self) -> Fault {
        Fault::Date(self.pattern.clone())
    }

    /// The text of a time; what the pattern has no room for must be zero.
    pub(super) fn write(&self, time: DateTime) -> Result<String, Fault> {
        let mut text = String::new();
        for part in &self.parts {
            text += &match *part {
                Part::Year => format!("{:04}", time.year()),
                Part::ShortYear => format!("{:02}", time.year().rem_euclid(100)),
                Part::Month => format!("{:02}", time.month()),
                Part::Day => format!("{:02}", time.day()),
                Part::Hour => format!("{:02}", time.hour()),
                Part::Minute => format!("{:02}", time.minute()),
                Part::Second => format!("{:02}", time.second()),
                Part::Sign(sign) => char::from(sign).to_string(),
            };
        }
        if self.read(text.as_bytes()) == Ok(time) { Ok(text) } else { Err(self.fault()) }
    }

    pub(super) fn read(&self, bytes: &[u8]) -> Result<DateTime, Fault> {
        let (mut year, mut month, mut day) = (0_i16, 0_i8, 0_i8);
        let (mut hour, mut minute, mut second) = (0_i8, 0_i8, 0_i8);
        let mut rest = bytes;
        for part in &self.parts {
            let (digits, next) = rest.split_at_checked(part.width()).ok_or_else(|| self.fault())?;
            rest = next;
            if let Part::Sign(sign) = part {
                if digits != [*sign] {
                    return Err(self.fault());
                }
                continue;
            }
            let number = digits.iter().try_fold(0_i16, |sum, digit| {
                digit.is_ascii_digit().then(|| sum * 10 + i16::from(digit - b'0'))
            });
            let number = number.ok_or_else(|| self.fault())?;
            // All but the year have two digits.
            let small = i8::try_from(number).unwrap_or(i8::MAX);
            match part {
                Part::Year => year = number,
                Part::ShortYear => year = 2_000 + number,
                Part::Month => month = small,
                Part::Day => day = small,
                Part::Hour => hour = small,
                Part::Minute => minute = small,
                Part::Second => second = small,
                Part::Sign(_) => {}
            }
        }
        DateTime::new(year, month, day, hour, minute, second, 0).map_err(|_| self.fault())
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_time_has_the_form_of_its_pattern() {
        let time = date(2026, 11, 23).at(4, 5, 6, 0);
        for (pattern, text) in
            [("YYYYMMDDhhmmss", "20261123040506"), ("DD/MM/YY hh:mm:ss", "23/11/26 04:05:06")]
        {
            let stamp = Stamp::parse(pattern).unwrap();
            assert_eq!(stamp.width(), text.len());
            assert_eq!(stamp.write(time).as_deref(), Ok(text));
            assert_eq!(stamp.read(text.as_bytes()), Ok(time));
        }
    }

    #[test]
    fn what_a_pattern_has_no_room_for_is_refused() {
        let day = Stamp::parse("YYMMDD").unwrap();
        assert_eq!(day.write(date(2026, 11, 23).at(0, 0, 0, 0)).as_deref(), Ok("261123"));
        for time in [date(2026, 11, 23).at(4, 0, 0, 0), date(1999, 1, 1).at(0, 0, 0, 0)] {
            assert_eq!(day.write(time), Err(Fault::Date("YYMMDD".into())));
        }
        for text in ["261323", "26112", "2611-3", "260229", ""] {
            assert!(day.read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_has_one_year_a_month_and_a_day() {
        for pattern in ["", "MMDD", "YYYYYYMMDD", "YYYYMMDDMM", "YYYYMMDDx", "YYYYDDD", "%Y%m%d"] {
            assert!(Stamp::parse(pattern).is_err(), "{pattern}");
        }
    }
}
