//! Tables of accepted and refused hosts.

use gatebird::host::{Host, LocalHosts};
use gatebird::locale::Message::{
    self, HostCharacter, HostDots, HostEmpty, HostHyphen, HostIdna, HostIp, HostLocal, HostOnly, HostPort,
    HostPublicSuffix, HostSingleLabel, HostSpecial, HostTooLong, HostWildcard,
};
use proptest::prelude::*;

fn parse(input: &str) -> Result<String, Message> {
    Host::parse(input, LocalHosts::Refused).map(|host| host.to_string())
}

#[test]
fn parse__accepted() {
    let label63 = "a".repeat(63);
    let name253 = format!("{label63}.{label63}.{label63}.{}.com", "a".repeat(57));
    for (input, stored) in [
        ("example.com", "example.com"),
        ("shop.example.com", "shop.example.com"),
        ("api.example", "api.example"),
        ("api.test", "api.test"),
        ("Shop.EXAMPLE.com", "shop.example.com"),
        ("a-b--c.example.com", "a-b--c.example.com"),
        ("r3---sn.example.com", "r3---sn.example.com"),
        ("1.example.com", "1.example.com"),
        ("127.0.0.1.nip.io", "127.0.0.1.nip.io"),
        ("0x7f.example", "0x7f.example"),
        ("localhost.example.com", "localhost.example.com"),
        ("internal.example.com", "internal.example.com"),
        ("someone.github.io", "someone.github.io"),
        ("bucket.s3.amazonaws.com", "bucket.s3.amazonaws.com"),
        ("shop.co.uk", "shop.co.uk"),
        // Ports are kept, except a default one.
        ("example.com:1", "example.com:1"),
        ("example.com:80", "example.com:80"),
        ("example.com:443", "example.com"),
        ("EXAMPLE.com:443", "example.com"),
        ("bücher.example:443", "xn--bcher-kva.example"),
        ("example.com:8443", "example.com:8443"),
        ("example.com:4430", "example.com:4430"),
        ("EXAMPLE.com:65535", "example.com:65535"),
        // Internationalised names: any case, NFC or NFD, or the A-label itself.
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u{308}cher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("한국.kr", "xn--3e0b707e.kr"),
        ("\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}.kr", "xn--3e0b707e.kr"),
        ("\u{915}\u{93c}लम.example", "xn--11b4cl3b.example"),
        ("\u{958}लम.example", "xn--11b4cl3b.example"),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("xn--mgba3gch31f060k.com", "xn--mgba3gch31f060k.com"),
        (&name253, &name253),
    ] {
        assert_eq!(parse(input).as_deref(), Ok(stored), "{input:?}");
    }
}

#[test]
fn parse__refused() {
    let long_label = format!("{}.com", "a".repeat(64));
    let long_a_label = format!("{}.com", "üa".repeat(31));
    let long_name = format!("{}abcd.com", "abcde.".repeat(41));
    let endless = "a.".repeat(1 << 20);
    for (input, reason) in [
        ("", HostEmpty),
        // Length.
        (&*long_label, HostTooLong),
        (&long_a_label, HostTooLong),
        (&long_name, HostTooLong),
        (&endless, HostTooLong),
        // Parts of a URL beside the host.
        ("https://example.com", HostOnly),
        ("//example.com", HostOnly),
        ("example.com/", HostOnly),
        ("example.com\\@evil.com", HostOnly),
        ("user:pw@example.com", HostOnly),
        ("example.com?a=b", HostOnly),
        ("example.com#a", HostOnly),
        ("*", HostWildcard),
        ("*.example.com", HostWildcard),
        // Ports.
        ("example.com:", HostPort),
        ("example.com:0", HostPort),
        ("example.com:65536", HostPort),
        ("example.com:-1", HostPort),
        ("example.com:+80", HostPort),
        ("example.com: 80", HostPort),
        ("example.com:080", HostPort),
        ("example.com:8080abc", HostPort),
        ("example.com:８０", HostPort),
        ("example.com:80:80", HostPort),
        ("example.com::80", HostPort),
        ("example.com:443:443", HostPort),
        ("example.com:0443", HostPort),
        ("example.com:４４３", HostPort),
        ("https:example.com", HostPort),
        (":80", HostDots),
        // Dots.
        (".", HostDots),
        ("example.com.", HostDots),
        ("example.com.:80", HostDots),
        (".example.com", HostDots),
        ("example..com", HostDots),
        ("localhost.", HostDots),
        ("127.0.0.1.", HostDots),
        // IP addresses in every notation.
        ("10.0.0.1", HostIp),
        ("127.0.0.1:8080", HostIp),
        ("192.168.1.1", HostIp),
        ("169.254.169.254", HostIp),
        ("8.8.8.8", HostIp),
        ("2130706433", HostIp),
        ("2852039166", HostIp),
        ("0x7f000001", HostIp),
        ("0X7F000001", HostIp),
        ("0x7f.1", HostIp),
        ("0177.0.0.1", HostIp),
        ("127.1", HostIp),
        ("0", HostIp),
        ("0x", HostIp),
        ("256.256.256.256", HostIp),
        ("1.2.3.4.5", HostIp),
        ("99999999999999999999", HostIp),
        ("example.123", HostIp),
        ("example.0x1f", HostIp),
        ("example.09", HostIp),
        ("::1", HostIp),
        ("[::1]", HostIp),
        ("[::1]:80", HostIp),
        ("[::1", HostIp),
        ("fd00::1", HostIp),
        ("::ffff:127.0.0.1", HostIp),
        ("fe80::1%eth0", HostIp),
        ("fe80::1%25eth0", HostIp),
        ("[fe80::1%25eth0]", HostIp),
        ("１２７.0.0.1", HostCharacter),
        ("127。0。0。1", HostCharacter),
        // White space, control and invisible characters.
        (" ", HostCharacter),
        (" example.com", HostCharacter),
        ("example.com ", HostCharacter),
        ("example.com\n", HostCharacter),
        ("example.com\r\nX", HostCharacter),
        ("exa\tmple.com", HostCharacter),
        ("exa\0mple.com", HostCharacter),
        ("exa\u{7f}mple.com", HostCharacter),
        ("exa\u{85}mple.com", HostCharacter),
        ("exa\u{a0}mple.com", HostCharacter),
        ("exa\u{ad}mple.com", HostCharacter),
        ("exa\u{34f}mple.com", HostCharacter),
        ("exa\u{115f}mple.com", HostCharacter),
        ("exa\u{180e}mple.com", HostCharacter),
        ("exa\u{200b}mple.com", HostCharacter),
        ("exa\u{200c}mple.com", HostCharacter),
        ("exa\u{200d}mple.com", HostCharacter),
        ("क्\u{200d}ष.example", HostCharacter),
        ("exa\u{200e}mple.com", HostCharacter),
        ("exa\u{2028}mple.com", HostCharacter),
        ("exa\u{202e}mple.com", HostCharacter),
        ("exa\u{2060}mple.com", HostCharacter),
        ("exa\u{2066}mple.com", HostCharacter),
        ("exa\u{2800}mple.com", HostCharacter),
        ("exa\u{3000}mple.com", HostCharacter),
        ("exa\u{3164}mple.com", HostCharacter),
        ("exa\u{fe0f}mple.com", HostCharacter),
        ("\u{feff}example.com", HostCharacter),
        ("exa\u{e0001}mple.com", HostCharacter),
        // Characters that IDNA would replace.
        ("ｅxample.com", HostCharacter),
        ("EXAMPLE。com", HostCharacter),
        ("example．com", HostCharacter),
        ("example｡com", HostCharacter),
        ("example․com", HostCharacter),
        ("example.com：80", HostCharacter),
        ("example.com／", HostCharacter),
        ("faceboo\u{212a}.com", HostCharacter),
        ("ſhop.example", HostCharacter),
        ("ﬁsh.example", HostCharacter),
        ("ⓔxample.com", HostCharacter),
        ("℀.example", HostCharacter),
        // Characters that a name cannot contain.
        ("_dmarc.example.com", HostCharacter),
        ("exam_ple.com", HostCharacter),
        ("ex%61mple.com", HostCharacter),
        ("127%2e0%2e0%2e1", HostCharacter),
        ("example.com,evil.com", HostCharacter),
        ("example.com;", HostCharacter),
        ("example.com\u{37e}", HostCharacter),
        ("a'b.example", HostCharacter),
        ("{a}.example", HostCharacter),
        // Hyphens.
        ("-example.com", HostHyphen),
        ("example-.com", HostHyphen),
        ("example.-com", HostHyphen),
        ("-", HostHyphen),
        ("xn--.com", HostHyphen),
        ("xn--abc-.com", HostHyphen),
        // Broken IDNA.
        ("xn--a.com", HostIdna),
        ("xn--99999.com", HostIdna),
        ("xn--\u{fc}.com", HostIdna),
        ("xn--bucher-xyd.example", HostIdna), // bücher in NFD
        ("xn--xample-hy68a.com", HostIdna),   // a fullwidth ｅ
        ("xn--example-7o3f.com", HostIdna),   // an ideographic full stop
        ("xn--example-nka.com", HostIdna),    // a soft hyphen
        ("xn--ab-g4t.com", HostIdna),         // an RTL override
        ("xn--example-j06c.com", HostIdna),   // a misplaced joiner
        ("\u{301}a.example", HostIdna),
        ("a\u{5d0}.example", HostIdna),
        ("\u{fffd}.example", HostIdna),
        // Names without an owner, and names that many owners share.
        ("com", HostPublicSuffix),
        ("COM", HostPublicSuffix),
        ("com:8080", HostPublicSuffix),
        ("co.uk", HostPublicSuffix),
        ("github.io", HostPublicSuffix),
        ("s3.amazonaws.com", HostPublicSuffix),
        ("foo.ck", HostPublicSuffix),
        ("公司.cn", HostPublicSuffix),
        ("xn--55qx5d.cn", HostPublicSuffix),
        ("中国", HostPublicSuffix),
        ("intranet1", HostSingleLabel),
        ("example", HostSingleLabel),
        ("bücher", HostSingleLabel),
        ("localhost", HostLocal),
        ("LocalHost:3000", HostLocal),
        ("metadata.google.internal", HostSpecial),
        ("intranet", HostSpecial),
        ("internal", HostSpecial),
        ("printer.local", HostSpecial),
        ("printer.LOCAL:631", HostSpecial),
        ("app.localhost", HostSpecial),
        ("localhost.localdomain", HostSpecial),
        ("abc.onion", HostSpecial),
        ("1.0.0.127.in-addr.arpa", HostSpecial),
        ("router.home.arpa", HostSpecial),
        ("x.invalid", HostSpecial),
    ] {
        assert_eq!(parse(input), Err(reason), "{input:.80?}");
    }
}

#[test]
fn parse__allowing_local_hosts_adds_localhost_only() {
    for (input, expected) in [
        ("localhost", Ok("localhost")),
        ("LOCALHOST:3000", Ok("localhost:3000")),
        ("LOCALHOST:80", Ok("localhost")),
        ("localhost:443", Ok("localhost")),
        ("localhost:8080", Ok("localhost:8080")),
        ("localhost:99999", Err(HostPort)),
        ("localhost.", Err(HostDots)),
        ("app.localhost", Err(HostSpecial)),
        ("127.0.0.1", Err(HostIp)),
        ("[::1]:3000", Err(HostIp)),
        ("intranet1", Err(HostSingleLabel)),
    ] {
        let host = Host::parse(input, LocalHosts::Allowed).map(|host| host.to_string());
        assert_eq!(host.as_deref(), expected.as_ref().copied(), "{input:?}");
    }
}

#[test]
fn stored__name_and_port() {
    for (stored, name, port) in [
        ("example.com", "example.com", None),
        ("example.com:443", "example.com", Some(443)),
        ("localhost:3000", "localhost", Some(3000)),
    ] {
        let host = Host::from_stored(stored.to_owned());
        assert_eq!((host.as_str(), host.name(), host.port()), (stored, name, port));
    }
}

#[test]
fn origins__match_the_host_only() {
    for (host, origin, matches) in [
        ("example.com", "https://example.com", true),
        ("example.com:8443", "https://example.com:8443", true),
        ("example.com:443", "https://example.com", true),
        ("example.com:80", "https://example.com:80", true),
        ("xn--bcher-kva.example", "https://xn--bcher-kva.example", true),
        ("localhost", "http://localhost", true),
        ("localhost", "https://localhost", true),
        ("localhost:3000", "http://localhost:3000", true),
        ("localhost:80", "http://localhost", true),
        ("localhost:80", "https://localhost", true),
        ("localhost:443", "http://localhost", true),
        ("example.com", "http://example.com", false),
        ("example.com:80", "http://example.com", false),
        ("example.com", "https://example.com:443", false),
        ("example.com:443", "https://example.com:443", false),
        ("example.com", "https://example.com:8443", false),
        ("example.com:8443", "https://example.com", false),
        ("localhost:80", "http://localhost:80", false),
        ("localhost:80", "https://localhost:80", false),
        ("localhost:443", "http://localhost:443", false),
        ("localhost:3000", "http://localhost", false),
        ("localhost", "http://127.0.0.1", false),
        ("example.com", "https://example.com/", false),
        ("example.com", "https://example.com.", false),
        ("example.com", "https://Example.com", false),
        ("example.com", "HTTPS://example.com", false),
        ("example.com", " https://example.com", false),
        ("example.com", "https://example.com ", false),
        ("example.com", "https://example.com https://evil.com", false),
        ("example.com", "https://sub.example.com", false),
        ("sub.example.com", "https://example.com", false),
        ("example.com", "https://evilexample.com", false),
        ("example.com", "https://example.com.evil.com", false),
        ("example.com", "https://example.com@evil.com", false),
        ("example.com", "https://u@example.com", false),
        ("example.com", "ftp://example.com", false),
        ("example.com", "https:example.com", false),
        ("example.com", "example.com", false),
        ("example.com", "https://", false),
        ("example.com", "null", false),
        ("example.com", "*", false),
        ("example.com", "", false),
    ] {
        let parsed = Host::parse(host, LocalHosts::Allowed).expect("a host");
        assert_eq!(parsed.matches_origin(origin), matches, "{host} {origin:?}");
        assert_eq!(Host::of_origin(origin).any(|found| found == parsed), matches, "{host} of {origin:?}");
    }
}

#[test]
fn stored__default_port_keeps_its_origin() {
    for (stored, origin) in [
        ("example.com:443", "https://example.com"),
        ("localhost:80", "http://localhost"),
        ("localhost:443", "https://localhost"),
    ] {
        let host = Host::from_stored(stored.to_owned());
        assert!(host.matches_origin(origin) && Host::of_origin(origin).any(|found| found == host), "{stored}");
        assert!(host.is_named(stored) && host.is_named(host.name()), "{stored}");
    }
}

#[test]
fn is_named__host_headers() {
    for (host, text, is_named) in [
        ("example.com", "example.com", true),
        ("example.com", "Example.COM:443", true),
        ("example.com:8443", "EXAMPLE.com:8443", true),
        ("localhost", "LocalHost:80", true),
        ("localhost", "localhost:443", true),
        ("xn--bcher-kva.example", "XN--BCHER-KVA.example:443", true),
        ("example.com", "example.com:80", false),
        ("example.com", "example.com:8443", false),
        ("example.com", "example.com:0443", false),
        ("example.com", "example.com:443:443", false),
        ("example.com", "example.com:", false),
        ("example.com", "example.com.", false),
        ("example.com:8443", "example.com", false),
        ("example.com:8443", "example.com:8443:443", false),
        ("example.com", "sub.example.com", false),
        ("example.com", ":443", false),
        ("example.com", "", false),
    ] {
        let parsed = Host::parse(host, LocalHosts::Allowed).expect("a host");
        assert_eq!(parsed.is_named(text), is_named, "{host} {text:?}");
    }
}

/// A label in its two spellings: as a person types it, and as an A-label.
fn spellings(label: &str) -> [String; 2] {
    let punycode = ::idna::punycode::encode_str(label).expect("a short label");
    [format!("{label}.example.com"), format!("xn--{punycode}.example.com")]
}

/// RFC 5892 excludes symbols, punctuation and characters out of their context from both spellings of a label.
#[test]
fn idna2008__disallowed_characters_are_refused() {
    for label in [
        // Look like a slash, a colon, an asterisk.
        "example\u{2044}path",
        "example\u{2215}path",
        "example\u{2236}8443",
        "\u{2217}é",
        "ab\u{29F8}",
        "ab\u{A789}",
        // Symbols, punctuation and emoji.
        "i♥",
        "💩",
        "a©",
        "a‐b",
        "a–b",
        "a“b",
        "a₩",
        "五、六",
        "a\u{1F1F0}\u{1F1F7}",
        // Letters that IDNA excludes, marks for symbols, unassigned and private characters.
        "a\u{640}",
        "a\u{302E}",
        "a\u{303B}",
        "a\u{20D0}",
        "a\u{1D165}",
        "a½b",
        "aⅳ",
        "a①",
        "a\u{378}",
        "a\u{E000}",
        // Parts of Hangul syllables.
        "\u{1160}x",
        "x\u{11A8}",
        "\u{A960}x",
        // Out of their context.
        "a·b",
        "l·",
        "·l",
        "a・b",
        "ͺ",
        "\u{375}a",
        "α\u{375}",
        "a\u{5F3}",
    ] {
        for spelled in spellings(label) {
            let refused = parse(&spelled);
            let is_refused = matches!(refused, Err(HostIdna | HostCharacter));
            assert!(is_refused, "{label:?} as {spelled:?}: {refused:?}");
        }
    }
    for spelled in spellings("ab--ü") {
        assert_eq!(parse(&spelled), Err(HostHyphen), "{spelled}");
    }
    assert!(parse("xn--9hb20a.example.com").is_err(), "Arabic and Persian digits in one label");
}

#[test]
fn idna2008__valid_labels_are_accepted_in_both_spellings() {
    for label in [
        "paral·lel",
        "カ・タ",
        "例・え",
        "ß",
        "ς",
        "五〇",
        "χαλκ\u{375}α",
        "ไทย",
        "हिन्दी",
        "தமிழ்",
        "ქართული",
        "հայերեն",
        "中文",
        "日本語ー",
        "한국어",
        "ñandú",
        "łódź",
    ] {
        let [typed, a_label] = spellings(label);
        assert_eq!(parse(&typed).as_deref(), Ok(&*a_label), "{label:?}");
        assert_eq!(parse(&a_label).as_deref(), Ok(&*a_label), "{label:?}");
    }
    assert!(parse("אב״ג.example.com").is_ok(), "a geresh after a Hebrew letter");
}

/// No character may become ASCII or vanish.
#[test]
fn parse__no_character_becomes_ascii_or_vanishes() {
    // The other planes have only ideographs, unassigned and private characters, and the tags that are tested above.
    for c in ('\u{80}'..='\u{1ffff}').chain('\u{2f800}'..='\u{2fa1f}') {
        if let Ok(host) = parse(&format!("x{c}x.example.com")) {
            assert!(host.starts_with("xn--"), "U+{:04X} became {host}", u32::from(c));
        }
    }
}

fn assert_canonical(input: &str) {
    let Ok(host) = Host::parse(input, LocalHosts::Allowed) else {
        return;
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:".contains(&b);
    assert!(host.as_str().bytes().all(plain), "{input:?} gave {host}");
    assert_eq!(Host::parse(host.as_str(), LocalHosts::Allowed), Ok(host.clone()), "{input:?}");
    let rebuilt = host.port().map_or(host.name().to_owned(), |port| format!("{}:{port}", host.name()));
    assert_eq!(rebuilt, host.as_str());
    let url = url::Url::parse(&format!("https://{host}")).expect("a URL");
    assert_eq!(url.domain(), Some(host.name()), "a URL parser reads {host} differently");
    assert!(host.matches_origin(&url.origin().ascii_serialization()), "{host}");
}

const ORDINARY: &str = r"[a-z0-9]{1,10}(-[a-z0-9]{1,10})?\.example(:[1-9][0-9]{0,3})?";
const NEAR: &str = concat!(
    r"([a-zA-Z0-9.ü한é\u{301}\u{200d}ß-]{1,8}|xn--[a-z0-9-]{1,8})",
    r"(\.(example|com|co\.uk|[a-z0-9x]{1,4}))?(:[0-9]{0,6})?",
);

proptest! {
    #[test]
    fn parse__ordinary_hosts_are_accepted(input in ORDINARY) {
        let stored = input.strip_suffix(":443").unwrap_or(&input).to_owned();
        prop_assert_eq!(parse(&input), Ok(stored));
    }

    #[test]
    fn parse__near_hosts_are_refused_or_canonical(input in NEAR) {
        assert_canonical(&input);
    }

    #[test]
    fn parse__any_string_is_refused_or_canonical(input in any::<String>()) {
        assert_canonical(&input);
    }
}
