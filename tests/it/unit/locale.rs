//! The negotiation of the language.

use gatebird::locale::Locale;

#[test]
fn negotiation__highest_weight_wins() {
    for (header, locale) in [
        ("ko", Some(Locale::Ko)),
        ("ko-KR,ko;q=0.9,en;q=0.8", Some(Locale::Ko)),
        ("EN-us", Some(Locale::En)),
        ("en;q=0.5, ko;q=0.9", Some(Locale::Ko)),
        ("fr, de;q=0.9", None),
        ("fr, ko;q=0.1", Some(Locale::Ko)),
        ("en, ko", Some(Locale::En)),
        ("ko, en", Some(Locale::Ko)),
        ("en ; x=y ; q=0.5, KO-kr;q=0.6", Some(Locale::Ko)),
        ("ko;q=0", None),
        ("ko;q=0.0, en;q=0.1", Some(Locale::En)),
        ("ko;q=x, en", Some(Locale::En)),
        ("ko;q=NaN, en;q=0.1", Some(Locale::En)),
        ("kor, eng", None),
        ("x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,ko", Some(Locale::Ko)),
        ("x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,x,ko", None),
        ("", None),
        (",,;;q=,", None),
    ] {
        assert_eq!(Locale::negotiate(header), locale, "{header}");
    }
}
