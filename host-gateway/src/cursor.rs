//! Where a page of a list goes on: after the last row of the page before, named as the list shows it.
//!
//! Every list reads its `after` here, by command and over HTTP: text that names no row is refused, since an empty page would
//! pass for the end of the list.

use std::fmt::Display;
use std::str::FromStr;

/// Text that is no row's name. It is not repeated: it may be a card's number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a page goes on after the name of a row: {0}")]
pub struct CursorError(String);

/// Reads the `--after` of a command.
pub fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, CursorError> {
    text.parse().map_err(|error: T::Err| CursorError(error.to_string()))
}

/// Reads the `after` of a query.
pub fn of_query<T: FromStr<Err: Display>>(after: Option<&str>) -> Result<Option<T>, CursorError> {
    after.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use crate::api::testing::over;
    use crate::cli::parse_store_command;
    use crate::testing::House;

    const KEY: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn no_list_goes_on_after_what_cannot_be_one_of_its_rows() {
        let debt = format!("{KEY}-2026-11-23-1");
        let correction = format!("{KEY}-2026-11-23-0102030405060708-17");
        let dispute = format!("{correction}-1");
        for (list, row) in [
            ("token", KEY),
            ("deny", KEY),
            ("break", KEY),
            ("alert", KEY),
            ("debt", &debt),
            ("correction", &correction),
            ("dispute", &dispute),
            ("concentrator", "wpc-5d3e8c3ddcbcb5cd"),
            ("account", "ACC-1"),
        ] {
            let told =
                |after: &str| parse_store_command(&[list, "list", "--after", after].map(str::to_owned)).err();
            assert_eq!(told(row), None, "{list}");
            for bad in ["", "two words", &row[1..], "安娜"] {
                // Any word may be an account's name.
                if list == "account" && bad == "CC-1" {
                    continue;
                }
                let told = told(bad).unwrap_or_else(|| panic!("{list} took {bad:?}"));
                let named = told.contains("a page goes on after the name of a row");
                assert!(named, "{list} {bad:?}: {told}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nor_does_one_over_http() {
        let (house, _server, http) = over(House::new().await).await;
        for list in ["breaks", "alerts", "debts", "corrections", "disputes", "concentrators"] {
            for bad in ["nonsense", "", "6217000012345678901"] {
                let (status, answer) = http.admin("GET", &format!("/v1/{list}?after={bad}"), None).await;
                assert_eq!(
                    (status, answer["error"]["code"].as_str()),
                    (400, Some("after")),
                    "{list}: {answer}"
                );
                assert!(bad.is_empty() || !answer.to_string().contains(bad), "{answer}");
            }
        }
        // The key of a concentrator that there never was could be one, and is none.
        let nobody = "wpc-0000000000000000";
        let (status, answer) = http.admin("GET", &format!("/v1/concentrators?after={nobody}"), None).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("after")), "{answer}");
        let told = house.refusal(&["concentrator", "list", "--after", nobody]).await;
        assert!(told.contains("no concentrator has the key id"), "{told}");
    }
}
