//! No text shows any part of a password, wherever it was put and whatever it is made of.

use proptest::prelude::*;

use super::{PoolConfig, env::from_variables};
use crate::error::Error;

/// Three words, each of which must not be shown, joined by characters that mean something in a URL,
/// an environment file or a settings file.
fn passwords() -> impl Strategy<Value = (String, Vec<String>)> {
    let word = prop_oneof!["[A-Z]{2}[0-9]{4}[a-z]{2}", "[1-9][0-9]{4}", "Ü[0-9]{5}ß"];
    let joint = prop_oneof![
        4 => "[/?#@:%&=+,;()\\[\\]{}<>|\\\\^~`'\"$!* .-]{1,2}",
        1 => Just("://".to_owned()),
        1 => Just("\t".to_owned()),
        1 => Just("%41".to_owned()),
        1 => Just("%ff".to_owned()),
        1 => Just("@tcp(".to_owned()),
        1 => Just("&size=x".to_owned()),
        1 => Just("?ssl-mode=".to_owned()),
        1 => Just("@host:3306/".to_owned()),
        1 => Just(String::new()),
    ];
    let joints = prop::collection::vec(joint, 4);
    (prop::collection::vec(word, 3), joints).prop_map(|(words, joints)| {
        let mut password = String::new();
        for (i, joint) in joints.iter().enumerate() {
            password += joint;
            password += words.get(i).map_or("", String::as_str);
        }
        (password, words)
    })
}

/// Encodes everything.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// All that a config or an error can show.
fn shown(outcome: &Result<PoolConfig, Error>) -> String {
    match outcome {
        Err(error) => format!("{error} {error:?} {error:#?}"),
        Ok(config) => {
            #[cfg(feature = "serde")]
            let file = serde_json::to_string(config).expect("a settings file");
            #[cfg(not(feature = "serde"))]
            let file = "";
            let (name, faults) = (config.display_name(), config.check());
            format!("{config:?} {config:#?} {file} {name} {faults:?}")
        }
    }
}

fn assert_hidden(outcome: &Result<PoolConfig, Error>, words: &[String], input: &str) {
    let text = shown(outcome);
    for word in words {
        assert!(!text.contains(word), "{word} of {input} is in {text}");
    }
}

fn from_pairs(pairs: &[(&str, &str)]) -> Result<PoolConfig, Error> {
    let pairs = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
    from_variables("DATABASE", pairs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_password_in_a_url_is_read_as_it_is_or_refused((password, words) in passwords()) {
        let raw = PoolConfig::from_url(&format!("mysql://app:{password}@db:3306/shop"));
        assert_hidden(&raw, &words, &password);
        if let Ok(config) = raw {
            prop_assert_eq!(config.display_name(), "db:3306/shop");
            // What looks encoded is decoded.
            let is_as_it_is = config.opts().pass() == Some(password.as_str());
            prop_assert!(is_as_it_is || password.contains('%'), "{}", password);
        }
        let encoded = encoded(&password);
        let config = PoolConfig::from_url(&format!("mysql://app:{encoded}@db:3306/shop"));
        assert_hidden(&config, &words, &password);
        let config = config.expect("it is encoded");
        prop_assert_eq!(config.opts().pass(), Some(password.as_str()));
    }

    #[test]
    fn no_form_of_a_url_shows_a_part_of_a_password((password, words) in passwords()) {
        let encoded = encoded(&password);
        for url in [
            format!("mysql://{password}@db/shop?size=x&colour=red"),
            format!("mysql://:{password}@db/shop"),
            format!("mysql://app:{password}@db/shop?size=x&colour=red&ssl-mode=PREFERRED"),
            format!("mysql://app:{password}@h1,h2:3306/shop"),
            format!("mysql://app:{password}@/shop"),
            format!("mysql://app:{password}@db:port/shop"),
            format!("mysql://app:{password}db/shop@"),
            format!("mysql://app%3A{encoded}@db/shop"),
            format!("mysql://app%3A{encoded}%40db/shop"),
            format!("mysql://app:12?a{encoded}%40db/shop"),
            format!("mysql://db/shop?user=app%3A{encoded}"),
            format!("mysql://db/shop?user=app&password={password}"),
            format!("jdbc:mysql://db/shop?user=app&password={password}&useSSL=maybe&size=x"),
            format!("jdbc:mysql://db/shop?user=app&passwd={password}"),
            format!("mysql://app@db/shop?pwd={password}"),
            format!("mysql://app@db/shop?size=x&sslpassword={password}&ssl-mode={password}"),
            format!("postgres://app:{password}@db/shop"),
            format!("app:{password}@tcp(db:3306)/shop?parseTime=true"),
            format!("app:{password}@db/shop"),
            format!("\"mysql://app:{password}@db/shop'"),
            password.clone(),
        ] {
            // Without a colon it is the name of a user, which is shown.
            let is_user = url.starts_with(&format!("mysql://{password}@"))
                && !password.contains([':', '/', '?', '#']);
            if !is_user {
                assert_hidden(&PoolConfig::from_url(&url), &words, &url);
            }
        }
    }

    #[test]
    fn no_variable_shows_a_part_of_a_password((password, words) in passwords()) {
        let config = from_pairs(&[("DATABASE_HOST", "db"), ("DATABASE_PASSWORD", &password)]);
        assert_hidden(&config, &words, &password);
        let config = config.expect("nothing is encoded there");
        prop_assert_eq!(config.opts().pass(), Some(password.as_str()));
        let url = format!("mysql://app:{password}@db/shop");
        for pairs in [
            vec![("DATABASE_URL", url.as_str())],
            vec![("DATABASE_URL", url.as_str()), ("DATABASE_POOL_SIZE", "x")],
            vec![("DATABASE_HOST", url.as_str())],
            vec![("DATABASE_HOST", "db"), ("DATABASE_POOL_PASSWORD", password.as_str())],
            vec![("DATABASE_HOST", "db"), ("DATABASE_POOL_SECRET", password.as_str())],
            vec![("DATABASE_HOST", "db"), ("DATABASE_POOL_INIT", password.as_str())],
            vec![("DATABASE_PORT", password.as_str()), ("DATABASE_PASSWORD", password.as_str())],
            vec![
                ("DATABASE_URL", "mysql://app@db"),
                ("DATABASE_PASSWORD", password.as_str()),
                ("DATABASE_PASSWORD_FILE", "/run/secrets/db"),
                ("DATABASE_POOL_SIZE", "x"),
            ],
        ] {
            assert_hidden(&from_pairs(&pairs), &words, &password);
        }
    }
}

#[cfg(feature = "serde")]
proptest! {
    #[test]
    fn no_settings_file_shows_a_part_of_a_password((password, words) in passwords()) {
        let text = serde_json::json!({"host": "db", "password": password});
        let config: PoolConfig = serde_json::from_value(text).expect("nothing is encoded there");
        prop_assert_eq!(config.opts().pass(), Some(password.as_str()));
        assert_hidden(&Ok(config), &words, &password);
        for file in [
            serde_json::json!({"url": format!("mysql://app:{password}@db/shop"), "size": "x"}),
            serde_json::json!({"host": "db", "password": [password]}),
            serde_json::json!({"host": "db", "password": {password.clone(): password}}),
            serde_json::json!({"host": "db", "secret": password}),
            serde_json::json!({"host": "db", "init": password}),
            serde_json::json!({"host": "db", "init": {"a": password}}),
            serde_json::json!({"host": format!("app:{password}@db"), "password": password}),
        ] {
            let input = file.to_string();
            if let Err(error) = serde_json::from_value::<PoolConfig>(file) {
                let text = format!("{error} {error:?}");
                for word in &words {
                    prop_assert!(!text.contains(word), "{word} of {input} is in {text}");
                }
            }
        }
    }
}
