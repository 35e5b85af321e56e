//! Messages whose wording was reviewed, in both languages.

use gatebird::locale::{Locale, Message};

#[rustfmt::skip]
const TEXTS: &[(Message, &str, &str)] = &[
    (Message::SecretRetired,
        "Secret retired. It and the domain's earlier tokens no longer work",
        "비밀 키가 폐기되었습니다. 이 키와 도메인의 이전 토큰은 더 이상 사용할 수 없습니다"),
    (Message::Changed,
        "It was changed in the meantime; read it again",
        "그사이에 변경되었습니다. 다시 조회하세요"),
    (Message::FoundPrivateAddress,
        "The host has an address that is not public",
        "호스트의 주소 중 공인 IP가 아닌 것이 있습니다"),
    (Message::TooManySecrets,
        "This domain has too many valid secrets; retire some first",
        "이 도메인에 유효한 비밀 키가 너무 많습니다. 먼저 일부를 폐기하세요"),
    (Message::HostUnverified,
        "Control of the token's host is not verified: the domain's owner must verify it",
        "토큰의 호스트 소유권이 확인되지 않았습니다. 도메인 소유자가 먼저 확인해야 합니다"),
    (Message::HostVerifiedByOther,
        "was verified by another user: if the host is yours, ask the operator",
        "다른 사용자가 이미 소유권을 확인한 호스트입니다. 본인의 호스트라면 운영자에게 문의하세요"),
];

#[test]
fn messages__in_english_and_korean() {
    for (message, english, korean) in TEXTS {
        assert_eq!(message.text(Locale::En), *english, "{message:?}");
        assert_eq!(message.text(Locale::Ko), *korean, "{message:?}");
    }
}
