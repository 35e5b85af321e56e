//! The text form of the head of the audit log.

use data_encoding::HEXLOWER;
use gatebird::db::audit::chain::Head;

#[test]
fn head__has_one_text_form() {
    let head = Head { id: 17, hash: (0..32).map(|byte| byte * 7).collect() };
    assert_eq!(head.to_string().parse(), Ok(head.clone()));
    assert_eq!("0:".parse(), Ok(Head::default()));
    let hash = HEXLOWER.encode(&head.hash);
    for text in [
        "",
        ":",
        "17",
        "17:",
        "17:00",
        "0:00",
        "x:",
        &hash,
        &format!("-1:{hash}"),
        &format!("17:{hash}0"),
        &format!("17:{}g", &hash[1..]),
    ] {
        assert!(text.parse::<Head>().is_err(), "{text}");
    }
}
