//! The server's `init_connect`, which it runs at each login but not after a reset.

use crate::{
    report::Flavor,
    session::effect::{control::only_sets, effect_of},
};

/// What a reset has to do so that the session is as after a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum InitConnect {
    /// Nothing: there is no such text, or the server does not run it for this account.
    #[default]
    Nothing,
    /// Run this text, which sets variables and does nothing else.
    Repeat(String),
    /// It cannot be repeated, because it does more, or because the account may be exempt. So the
    /// pool replaces connections instead of resetting them.
    Replace,
}

impl InitConnect {
    /// `grants` is the answer to `SHOW GRANTS`, which includes the active roles' privileges; `None`
    /// if unknown.
    pub(super) fn of(text: &str, grants: Option<&[String]>, flavor: Flavor) -> Self {
        let text = text.trim();
        // A proxy may answer a question that it does not know with anything at all.
        let is_statement =
            text.starts_with(|first: char| first.is_alphabetic() || "/#-;(".contains(first));
        if !is_statement {
            return Self::Nothing;
        }
        let Some(grants) = grants else {
            return Self::Replace;
        };
        let has = |names: &[&str]| grants.iter().any(|grant| grants_any(grant, names));
        if has(&["ALL PRIVILEGES", "CONNECTION ADMIN", "CONNECTION_ADMIN"]) {
            return Self::Nothing;
        }
        if has(&["SUPER"]) {
            return match flavor {
                Flavor::MySql => Self::Nothing,
                // `SUPER` exempts an account up to MariaDB 10.11, not later.
                Flavor::MariaDb => Self::Replace,
            };
        }
        let effect = effect_of(text.as_bytes());
        if only_sets(text.as_bytes()) && !effect.database && !effect.role && !effect.unresettable {
            Self::Repeat(text.to_owned())
        } else {
            Self::Replace
        }
    }
}

/// Whether a line of `SHOW GRANTS` grants one of these privileges on everything.
fn grants_any(grant: &str, names: &[&str]) -> bool {
    let list = grant
        .strip_prefix("GRANT ")
        .and_then(|grant| grant.split_once(" ON *.* TO "));
    list.is_some_and(|(list, _)| list.split(',').any(|name| names.contains(&name.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, grants: &[&str], flavor: Flavor) -> InitConnect {
        let grants: Vec<_> = grants.iter().map(ToString::to_string).collect();
        InitConnect::of(text, Some(&grants), flavor)
    }

    #[test]
    fn a_text_that_sets_variables_is_repeated() {
        let plain = [
            "GRANT USAGE ON *.* TO `a`@`%`",
            "GRANT ALL PRIVILEGES ON `b`.* TO `a`@`%`",
        ];
        for text in [
            "SET NAMES utf8mb4",
            " SET SESSION sql_mode = '', @a = 1; ",
            "SET autocommit = 0; SET @who = CURRENT_USER(); SET time_zone = '+00:00'",
        ] {
            let expected = InitConnect::Repeat(text.trim().to_owned());
            assert_eq!(of(text, &plain, Flavor::MySql), expected, "{text}");
            assert_eq!(
                InitConnect::of(text, None, Flavor::MySql),
                InitConnect::Replace
            );
        }
        for text in [
            "INSERT INTO audit.logins VALUES (CURRENT_USER())",
            "SET @a = 1; INSERT INTO t VALUES (1)",
            "SET @a = stored()",
            "SET ROLE r",
            "CALL p()",
            "USE other",
            "SET profiling = 1",
            "SELECT 1",
            "BEGIN NOT ATOMIC SET @a = 1; END",
        ] {
            assert_eq!(
                of(text, &plain, Flavor::MariaDb),
                InitConnect::Replace,
                "{text}"
            );
        }
        for text in ["", "  ", "@@init_connect", "0"] {
            assert_eq!(
                of(text, &plain, Flavor::MySql),
                InitConnect::Nothing,
                "{text}"
            );
        }
    }

    #[test]
    fn an_exempt_account_is_known_by_its_grants() {
        let text = "SET @a = 1";
        for grant in [
            "GRANT ALL PRIVILEGES ON *.* TO `a`@`%` WITH GRANT OPTION",
            "GRANT CONNECTION ADMIN ON *.* TO `r`",
            "GRANT AUDIT_ADMIN,CONNECTION_ADMIN,X ON *.* TO `a`@`%`",
        ] {
            for flavor in [Flavor::MySql, Flavor::MariaDb] {
                assert_eq!(of(text, &[grant], flavor), InitConnect::Nothing, "{grant}");
            }
        }
        let super_user = ["GRANT SELECT, SUPER, PROCESS ON *.* TO `a`@`%`"];
        assert_eq!(of(text, &super_user, Flavor::MySql), InitConnect::Nothing);
        assert_eq!(of(text, &super_user, Flavor::MariaDb), InitConnect::Replace);
        for grant in [
            "GRANT `SUPER`@`%` TO `a`@`%`",
            "GRANT SUPERB ON *.* TO `a`@`%`",
            "GRANT ALL PRIVILEGES ON `shop`.* TO `a`@`%`",
            "REVOKE CONNECTION_ADMIN ON *.* FROM `a`@`%`",
        ] {
            let expected = InitConnect::Repeat(text.to_owned());
            assert_eq!(of(text, &[grant], Flavor::MySql), expected, "{grant}");
        }
    }
}
