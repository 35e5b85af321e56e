//! Valid and invalid values, and that no secret is shown.

use gatebird::Config;
use gatebird::config::{Lifecycle, date, grace};
use gatebird::exit::Exit;
use gatebird::host::LocalHosts;

fn load(pairs: &[(&str, &str)]) -> Result<Config, Exit> {
    Config::load(|key| {
        let found = pairs.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| (*value).to_owned())
    })
}

const GOOD: &str = "kJ8s0dP2mQ7xV4nB1zR6tY9wL3cF5gH0";

#[test]
fn settings__all_invalid_values_are_reported_together() {
    let problems = load(&[("PORT", "x"), ("TOKEN_TTL", "1y"), ("LIMIT_FREE", "many"), ("JWT_SECRET", "short")]);
    let text = problems.expect_err("four problems").to_string();
    for key in ["PORT", "TOKEN_TTL", "LIMIT_FREE", "JWT_SECRET"] {
        assert!(text.lines().any(|line| line.starts_with(key)), "{key} in {text}");
    }
}

#[test]
fn jwt_secret__guessable_value_is_refused() {
    for secret in [
        "jwtSecret",
        "secret",
        "0123456789abcdef0123456789abcde",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "replace-me-with-at-least-32-random-bytes",
        "your-256-bit-secret-your-256-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "nodebirdsecretnodebirdsecretnodebirdsecret",
    ] {
        assert!(load(&[("JWT_SECRET", secret)]).is_err(), "{secret}");
    }
    assert!(load(&[("JWT_SECRET", GOOD)]).is_ok());
}

#[test]
fn database_url__plaintext_is_allowed_on_this_machine_only() {
    let with = |url, extra: &[(&str, &str)]| {
        let pairs: Vec<_> = [("DATABASE_URL", url), ("JWT_SECRET", GOOD)].iter().chain(extra).copied().collect();
        load(&pairs).is_ok()
    };
    for url in [
        "postgres:///db",
        "postgres://u@localhost/db",
        "postgres://127.0.0.1:5432/db",
        "postgres://[::1]/db",
        "postgres:///db?host=/run/postgresql",
    ] {
        assert!(with(url, &[]), "{url}");
    }
    for url in [
        "postgres://db.example.com/db",
        "postgres://10.0.0.5/db",
        "postgres:///db?host=10.0.0.5",
        "postgres://localhost/db?hostaddr=10.0.0.5",
        "postgres:///db?service=x",
    ] {
        assert!(!with(url, &[]), "{url}");
        assert!(with(url, &[("DATABASE_PLAINTEXT", "allow")]), "{url}");
    }
    assert!(!with("postgres:///db", &[("PGHOST", "10.0.0.5")]));
}

#[test]
fn debug__shows_no_secret() {
    let config = load(&[("JWT_SECRET", GOOD), ("DATABASE_URL", "postgres://gatebird:canary-password@localhost/db")]);
    let shown = format!("{:?}", config.expect("loads"));
    assert!(!shown.contains("canary") && !shown.contains(GOOD), "{shown}");
}

#[test]
fn jwt_secret__is_required_with_postgresql() {
    assert!(load(&[("DATABASE_URL", "postgres:///db")]).is_err());
}

#[test]
fn duration__valid_and_invalid_values() {
    let duration = |text| load(&[("TOKEN_TTL", text)]).map(|config| config.token_ttl);
    for (text, seconds) in [("1s", 1), ("30s", 30), ("1m", 60), ("1h", 3600), ("1d", 86_400), ("30d", 2_592_000)] {
        assert_eq!(duration(text).expect("a duration"), seconds);
    }
    for text in ["s", "0s", "-1s", "1", "1w", "31d", "1.5h", "1 m", "한"] {
        assert!(duration(text).is_err(), "{text}");
    }
    assert!(grace("").is_err());
}

#[test]
fn audiences__are_distinct() {
    let audiences = |text: &str| load(&[("JWT_ISSUER", "urn:me"), ("AUDIENCES", text)]).map(|config| config.audiences);
    assert_eq!(audiences("urn:a https://b.example").expect("two"), ["urn:me", "urn:a", "https://b.example"]);
    assert_eq!(audiences("urn:a urn:me").expect("the issuer is always an audience"), ["urn:me", "urn:a"]);
    let problem = audiences("urn:a urn:me/account").expect_err("the audience of user tokens").to_string();
    assert!(problem.contains("urn:me/account"), "{problem}");
    let problem = audiences("urn:a urn:b urn:a").expect_err("a duplicate").to_string();
    assert_eq!(problem, "AUDIENCES has \"urn:a\" twice (environment: \"urn:a urn:b urn:a\")");
}

#[test]
fn limit_address__default_is_ten_times_premium() {
    for (premium, ceiling) in [("6000/m", "60000/m"), ("5/s", "50/s"), ("1000000/h", "1000000/h"), ("off", "off")] {
        let settings = load(&[("LIMIT_PREMIUM", premium)]).expect("loads").settings;
        let shown = settings.into_iter().find(|setting| setting.key == "LIMIT_ADDRESS").map(|setting| setting.shown);
        assert_eq!(shown.as_deref(), Some(ceiling));
    }
}

#[test]
fn date__valid_and_invalid_values() {
    for (text, seconds) in [
        ("1970-01-01", 0),
        ("2000-02-29", 951_782_400),
        ("2024-12-31", 1_735_603_200),
        ("2027-01-31", 1_801_353_600),
        ("2100-03-01", 4_107_542_400),
        ("2400-02-29", 13_574_563_200),
        ("9999-12-31", 253_402_214_400),
    ] {
        assert_eq!(date(text), Ok(seconds), "{text}");
    }
    for text in [
        "0000-00-00",
        "0000-01-01",
        "0001-01-01",
        "1969-12-31",
        "2027-00-01",
        "2027-13-01",
        "2027-01-00",
        "2027-01-32",
        "2027-04-31",
        "2027-02-29",
        "2100-02-29",
        "2027-1-31",
        "2027-01-1",
        "27-01-31",
        "02027-01-31",
        "10000-01-01",
        "+027-01-31",
        "-027-01-31",
        "2027-+1-31",
        "2027/01/31",
        "20270131",
        "2027-01-31T00:00:00Z",
        "2027-01-31 ",
        " 2027-01-31",
        "2027-01",
        "2027-01-31-01",
        "2027-W05-7",
        "31-01-2027",
        "off",
        "-",
        "--",
        "２０２７-01-31",
        "2027-٠١-31",
        "99999999999999999999-01-01",
    ] {
        assert!(date(text).is_err(), "{text}");
    }
}

#[test]
fn api_v1__deprecation_must_not_follow_sunset() {
    let life = |deprecated, sunset| {
        load(&[("API_V1_DEPRECATED", deprecated), ("API_V1_SUNSET", sunset)]).map(|config| config.api_v1)
    };
    let (first, second) = (Some(1_801_353_600), Some(1_801_440_000));
    for (deprecated, sunset, good) in [
        ("", "", Lifecycle { deprecated: None, sunset: None }),
        ("2027-01-31", "", Lifecycle { deprecated: first, sunset: None }),
        ("", "2027-01-31", Lifecycle { deprecated: None, sunset: first }),
        ("2027-01-31", "2027-02-01", Lifecycle { deprecated: first, sunset: second }),
        ("2027-01-31", "2027-01-31", Lifecycle { deprecated: first, sunset: first }),
    ] {
        assert_eq!(life(deprecated, sunset).expect("good dates"), good);
    }
    let problem = |deprecated, sunset| life(deprecated, sunset).expect_err("bad dates").to_string();
    assert!(problem("2027-02-01", "2027-01-31").starts_with("API_V1_SUNSET is before API_V1_DEPRECATED "));
    assert_eq!(problem("x", "2027-02-30").lines().count(), 2, "both are reported");
}

#[test]
fn allow_local_hosts__default_follows_public_url() {
    assert_eq!(load(&[]).expect("loads").local_hosts, LocalHosts::Allowed);
    assert_eq!(load(&[("PUBLIC_URL", "https://gate.example.com/")]).expect("loads").local_hosts, LocalHosts::Refused);
    assert_eq!(load(&[("PUBLIC_URL", "https://gate.example.com/")]).expect("loads").issuer, "https://gate.example.com");
}
