//! Every sentence a person may read, in English and Korean, in one table; and which of the two a
//! request asked for. `error` and `reason` of an answer are for programs and are not in here.

/// A language that answers can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locale {
    /// English.
    En,
    /// Korean.
    Ko,
}

impl Locale {
    /// Parses a value of `DEFAULT_LOCALE`.
    pub fn parse(text: &str) -> Option<Locale> {
        match text {
            "en" => Some(Locale::En),
            "ko" => Some(Locale::Ko),
            _ => None,
        }
    }

    /// The language of highest weight in an `Accept-Language` value (RFC 9110 §12.5.4) that we
    /// have; the first one named wins a tie, and `None` means that we have none of them.
    pub fn negotiate(accept_language: &str) -> Option<Locale> {
        let mut best: Option<(Locale, f32)> = None;
        for range in accept_language.split(',').take(16) {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim();
            let primary = tag.split('-').next().unwrap_or_default();
            let weight = parts
                .find_map(|parameter| parameter.trim().strip_prefix("q="))
                .map_or(1.0, |q| q.parse().unwrap_or(0.0));
            let Some(locale) = Locale::parse(&primary.to_ascii_lowercase()) else {
                continue;
            };
            if weight > best.map_or(0.0, |(_, weight)| weight) {
                best = Some((locale, weight));
            }
        }
        best.map(|(locale, _)| locale)
    }
}

/// A sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table in `texts` says what each one means")]
pub enum Message {
    // done
    TokenIssued,
    SignedUp,
    SignedIn,
    SignedOut,
    SignedOutEverywhere,
    Ok,
    PasswordChanged,
    AccountDeleted,
    DomainRegistered,
    DomainRegisteredWithKeys,
    DomainChanged,
    DomainDeleted,
    Revoked,
    SecretRotated,
    SecretRotatedAtOnce,
    SecretRetired,
    PostCreated,
    PostChanged,
    PostDeleted,
    HostProven,
    // refused
    TokenMissing,
    TokenInvalid,
    TokenExpired,
    TokenRevoked,
    UnknownClient,
    WrongCredentials,
    WrongPassword,
    SignupClosed,
    TooManySecrets,
    Changed,
    LacksScope,
    WrongHost,
    HostUnverified,
    DemandOfCaller,
    UserTokenNeeded,
    ClientTokenNeeded,
    Malformed,
    GrantType,
    ScopeTooMuch,
    Target,
    TwoAuthentications,
    RepeatedParameter,
    NotFound,
    NoResults,
    Method,
    Taken,
    TooLarge,
    HeadTooLarge,
    TooSlow,
    MediaType,
    Origin,
    SecretInBrowser,
    Sunset,
    PlanLimit,
    PlanLimitButToken,
    NetworkLimit,
    AccountLimit,
    FailureLimit,
    PasswordLimit,
    PlanNotGranted,
    DomainQuota,
    PostQuota,
    MaxUsers,
    MaxDomains,
    DomainSuspended,
    Busy,
    CommitUnknown,
    Unproven,
    NotProven,
    Tries,
    Internal,
    // what a look for a proof found
    FoundMatch,
    FoundNoRecord,
    FoundOtherValue,
    FoundNoAddress,
    FoundPrivateAddress,
    FoundNoAnswer,
    FoundPort,
    FoundUnreachable,
    FoundTls,
    FoundNotHttp,
    FoundRedirect,
    FoundStatus,
    FoundTooLarge,
    FoundTimeout,
    FoundLimited,
    // about one member of a body
    Unknown,
    Required,
    WrongType,
    UsernameLength,
    UsernameCharacter,
    UsernameScripts,
    UsernameLookalike,
    UsernameIsId,
    NickLength,
    NickCharacter,
    PasswordLength,
    PasswordWeak,
    UsernameTaken,
    HostTaken,
    HostProvenByOther,
    Plan,
    Scopes,
    Audiences,
    Keys,
    PrivateKeys,
    NoKeys,
    HasKeys,
    GraceSeconds,
    EndSecretsSince,
    Days,
    Content,
    Img,
    Limit,
    Cursor,
    HostEmpty,
    HostTooLong,
    HostOnly,
    HostWildcard,
    HostIp,
    HostPublicSuffix,
    HostSingleLabel,
    HostDots,
    HostCharacter,
    HostPort,
    HostLocal,
    HostSpecial,
    HostIdna,
}

impl Message {
    /// The sentence in that language.
    pub fn text(self, locale: Locale) -> &'static str {
        let (en, ko) = self.texts();
        match locale {
            Locale::En => en,
            Locale::Ko => ko,
        }
    }

    #[rustfmt::skip]
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Message::TokenIssued => ("Token issued", "토큰이 발급되었습니다"),
            Message::SignedUp => ("Welcome", "가입되었습니다"),
            Message::SignedIn => ("Signed in", "로그인되었습니다"),
            Message::SignedOut => ("Signed out; this token no longer works", "로그아웃되었습니다. 이 토큰은 더 이상 사용할 수 없습니다"),
            Message::SignedOutEverywhere => ("Signed out everywhere; earlier tokens no longer work", "모든 곳에서 로그아웃되었습니다. 이전 토큰은 더 이상 사용할 수 없습니다"),
            Message::Ok => ("OK", "요청이 처리되었습니다"),
            Message::PasswordChanged => ("Password changed; earlier tokens no longer work", "비밀번호가 변경되었습니다. 이전 토큰은 더 이상 사용할 수 없습니다"),
            Message::AccountDeleted => ("Account deleted", "계정이 삭제되었습니다"),
            Message::DomainRegistered => ("Domain registered. Keep the client secret: it is shown only now", "도메인이 등록되었습니다. 클라이언트 비밀 키는 지금만 표시되므로 잘 보관하세요"),
            Message::DomainRegisteredWithKeys => ("Domain registered. It authenticates by its keys", "도메인이 등록되었습니다. 등록한 키로 인증합니다"),
            Message::DomainChanged => ("Domain changed", "도메인이 변경되었습니다"),
            Message::DomainDeleted => ("Domain deleted", "도메인이 삭제되었습니다"),
            Message::Revoked => ("The token has been revoked", "토큰이 폐기되었습니다"),
            Message::SecretRotated => ("New client secret. Keep it: it is shown only now. The old secrets still work for a while", "새 클라이언트 비밀 키입니다. 지금만 표시되므로 잘 보관하세요. 이전 키는 당분간 사용할 수 있습니다"),
            Message::SecretRotatedAtOnce => ("New client secret. Keep it: it is shown only now. The old secrets and their tokens no longer work", "새 클라이언트 비밀 키입니다. 지금만 표시되므로 잘 보관하세요. 이전 키와 토큰은 더 이상 사용할 수 없습니다"),
            Message::SecretRetired => ("Secret retired. It and the domain's earlier tokens no longer work", "비밀 키가 폐기되었습니다. 이 키와 도메인의 이전 토큰은 더 이상 사용할 수 없습니다"),
            Message::PostCreated => ("Post created", "게시글이 등록되었습니다"),
            Message::PostChanged => ("Post changed", "게시글이 수정되었습니다"),
            Message::PostDeleted => ("Post deleted", "게시글이 삭제되었습니다"),
            Message::HostProven => ("Control of the host is verified", "호스트 소유권이 확인되었습니다"),

            Message::TokenMissing => ("Send a token in the Authorization header", "Authorization 헤더에 토큰을 담아 보내세요"),
            Message::TokenInvalid => ("The token is not valid", "유효하지 않은 토큰입니다"),
            Message::TokenExpired => ("The token has expired", "토큰이 만료되었습니다"),
            Message::TokenRevoked => ("The token has been revoked", "폐기된 토큰입니다"),
            Message::UnknownClient => ("Unregistered domain. Register the domain first", "등록되지 않은 도메인입니다. 먼저 도메인을 등록하세요"),
            Message::WrongCredentials => ("Unknown user or wrong password", "사용자 이름 또는 비밀번호가 올바르지 않습니다"),
            Message::WrongPassword => ("The password is wrong", "비밀번호가 올바르지 않습니다"),
            Message::SignupClosed => ("Sign-up is closed; ask the operator for an account", "현재 회원 가입을 받지 않습니다. 운영자에게 계정을 요청하세요"),
            Message::Changed => ("It was changed in the meantime; read it again", "그사이에 변경되었습니다. 다시 조회하세요"),
            Message::TooManySecrets => ("This domain has too many valid secrets; retire some first", "이 도메인에 유효한 비밀 키가 너무 많습니다. 먼저 일부를 폐기하세요"),
            Message::LacksScope => ("The token lacks the scope for this", "토큰에 필요한 권한 범위가 없습니다"),
            Message::WrongHost => ("The token was issued to a domain of another host", "다른 호스트의 도메인에 발급된 토큰입니다"),
            Message::HostUnverified => ("Control of the token's host is not verified", "토큰의 호스트 소유권이 확인되지 않았습니다"),
            Message::DemandOfCaller => ("The query of a request cannot state what its token must be good for", "요청의 쿼리로는 토큰의 요구 조건을 지정할 수 없습니다"),
            Message::UserTokenNeeded => ("This needs a user token: sign in", "사용자 토큰이 필요합니다. 로그인하세요"),
            Message::ClientTokenNeeded => ("This needs a client's access token", "클라이언트의 액세스 토큰이 필요합니다"),
            Message::Malformed => ("The request is malformed", "요청 형식이 올바르지 않습니다"),
            Message::GrantType => ("grant_type must be client_credentials", "grant_type은 client_credentials여야 합니다"),
            Message::ScopeTooMuch => ("The scope is unknown, or this domain must not have it", "알 수 없거나 도메인에 허용되지 않은 권한 범위입니다"),
            Message::Target => ("No tokens are issued for this resource", "토큰을 발급할 수 없는 resource입니다"),
            Message::TwoAuthentications => ("Authenticate in one way only: in the header or in the body", "인증 정보는 헤더와 본문 중 한 곳에만 보내세요"),
            Message::RepeatedParameter => ("A parameter must be sent only once", "같은 매개변수를 두 번 보낼 수 없습니다"),
            Message::NotFound => ("Not found", "찾을 수 없습니다"),
            Message::NoResults => ("No results", "검색 결과가 없습니다"),
            Message::Method => ("This method is not allowed here", "허용되지 않은 메서드입니다"),
            Message::Taken => ("Already taken", "이미 사용 중입니다"),
            Message::TooLarge => ("The body is too large", "본문이 너무 큽니다"),
            Message::HeadTooLarge => ("The request's head is too large", "요청 헤더가 너무 큽니다"),
            Message::TooSlow => ("The request did not arrive in time", "요청이 제시간에 도착하지 않았습니다"),
            Message::MediaType => ("This content type is not accepted here", "지원하지 않는 콘텐츠 형식입니다"),
            Message::Origin => ("No domain is registered for the host of this web page", "이 웹 페이지의 호스트는 등록된 도메인이 아닙니다"),
            Message::SecretInBrowser => ("A client secret does not belong in a browser: ask for tokens from your server, and replace this secret", "클라이언트 비밀 키는 브라우저에서 사용할 수 없습니다. 서버에서 토큰을 요청하고 이 비밀 키를 교체하세요"),
            Message::Sunset => ("This version of the API has ended", "이 버전의 API는 종료되었습니다"),
            Message::PlanLimit => ("The domain's plan allows no more requests now", "도메인 요금제의 요청 한도를 초과했습니다"),
            Message::PlanLimitButToken => ("The domain's plan allows no more requests now; your last token is good for another {} s", "도메인 요금제의 요청 한도를 초과했습니다. 마지막으로 발급된 토큰을 {}초 더 사용할 수 있습니다"),
            Message::NetworkLimit => ("Too many requests from your network; wait a moment", "같은 네트워크에서 보낸 요청이 너무 많습니다. 잠시 후 다시 시도하세요"),
            Message::AccountLimit => ("Too many changes by your account; wait a moment", "계정에서 변경 요청을 너무 많이 보냈습니다. 잠시 후 다시 시도하세요"),
            Message::FailureLimit => ("Too many wrong credentials from your network; check them and wait a moment", "같은 네트워크에서 보낸 잘못된 인증 정보가 너무 많습니다. 확인한 뒤 잠시 후 다시 시도하세요"),
            Message::PasswordLimit => ("Too many wrong passwords for this name; wait before you try again", "비밀번호를 너무 여러 번 틀렸습니다. 잠시 후 다시 시도하세요"),
            Message::PlanNotGranted => ("Only the operator grants premium: register the domain as free and ask the operator", "premium은 운영자가 부여합니다. free를 선택한 뒤 운영자에게 요청하세요"),
            Message::DomainQuota => ("You already have the largest number of domains; delete one first", "등록할 수 있는 도메인 수를 모두 사용했습니다. 먼저 도메인을 삭제하세요"),
            Message::PostQuota => ("You already have the largest number of posts; delete one first", "작성할 수 있는 게시글 수를 모두 사용했습니다. 먼저 게시글을 삭제하세요"),
            Message::MaxUsers => ("This server already has the largest number of accounts that its operator allows (MAX_USERS)", "운영자가 허용한 계정 수(MAX_USERS)에 도달하여 더 이상 계정을 만들 수 없습니다"),
            Message::MaxDomains => ("This server already has the largest number of domains that its operator allows (MAX_DOMAINS)", "운영자가 허용한 도메인 수(MAX_DOMAINS)에 도달하여 더 이상 도메인을 등록할 수 없습니다"),
            Message::DomainSuspended => ("The operator suspended this domain; only the operator can resume it", "운영자가 정지한 도메인입니다. 운영자만 정지를 해제할 수 있습니다"),
            Message::Busy => ("Temporarily unavailable; try again in a moment", "일시적으로 사용할 수 없습니다. 잠시 후 다시 시도하세요"),
            Message::CommitUnknown => (
                "The change may have been made but may not be in force yet; check before you try again",
                "변경되었을 수 있으나 적용 여부를 확인하지 못했습니다. 다시 시도하기 전에 변경되었는지 확인하세요",
            ),
            Message::Unproven => ("Control of the domain's host is not verified", "도메인 호스트의 소유권이 확인되지 않았습니다"),
            Message::NotProven => ("The challenge was not found on the host", "호스트에서 확인 값을 찾지 못했습니다"),
            Message::Tries => ("Too many attempts; wait a moment", "시도 횟수가 너무 많습니다. 잠시 후 다시 시도하세요"),
            Message::Internal => ("Server error", "서버 오류가 발생했습니다"),

            Message::FoundMatch => ("The challenge was found", "확인 값을 찾았습니다"),
            Message::FoundNoRecord => ("There is no TXT record of this name", "이 이름의 TXT 레코드가 없습니다"),
            Message::FoundOtherValue => ("The record or file has another value", "다른 값이 있습니다. 확인 값을 그대로 게시하세요"),
            Message::FoundNoAddress => ("The host has no address in DNS", "DNS에 호스트의 주소가 없습니다"),
            Message::FoundPrivateAddress => ("The host has an address that is not public", "호스트의 주소 중 공인 IP가 아닌 것이 있습니다"),
            Message::FoundNoAnswer => ("The DNS servers did not give an answer", "DNS 서버가 응답하지 않았습니다"),
            Message::FoundPort => ("Files are looked for on the ports 80, 443 and from 1024 only", "파일은 80, 443 및 1024 이상의 포트에서만 확인합니다"),
            Message::FoundUnreachable => ("The host could not be reached", "호스트에 연결할 수 없습니다"),
            Message::FoundTls => ("The host has no TLS, or no certificate that is trusted", "TLS를 사용할 수 없거나 신뢰할 수 있는 인증서가 아닙니다"),
            Message::FoundNotHttp => ("The answer was not HTTP", "HTTP 응답이 아닙니다"),
            Message::FoundRedirect => ("The answer was a redirect, which is not followed", "리디렉션 응답이며, 리디렉션은 따라가지 않습니다"),
            Message::FoundStatus => ("The answer's status was not 200", "응답 상태가 200이 아닙니다"),
            Message::FoundTooLarge => ("The answer was too large", "응답이 너무 큽니다"),
            Message::FoundTimeout => ("The host did not answer in time", "호스트가 제시간에 응답하지 않았습니다"),
            Message::FoundLimited => (
                "Too many verifications connected to this host's address; try again in a minute, or use the DNS record",
                "이 호스트의 주소에 대한 확인 요청이 너무 많습니다. 1분 후 다시 시도하거나 DNS 레코드를 사용하세요",
            ),

            Message::Unknown => ("is not a member of this request", "알 수 없는 항목입니다"),
            Message::Required => ("is required", "필수 항목입니다"),
            Message::WrongType => ("has the wrong type", "형식이 올바르지 않습니다"),
            Message::UsernameLength => ("must have 3 to 40 characters", "3~40자여야 합니다"),
            Message::UsernameCharacter => ("must have only letters, digits and . _ - + @, and no blank, invisible, full-width or other special character", "글자와 숫자, . _ - + @ 만 사용할 수 있으며 공백, 보이지 않는 문자, 전각 문자 등 특수한 문자는 사용할 수 없습니다"),
            Message::UsernameScripts => ("must have letters of one script only, such as a to z or Hangul", "영문 또는 한글처럼 한 가지 문자 체계의 글자만 사용해야 합니다"),
            Message::UsernameLookalike => ("looks like a name in the letters a to z; choose one that cannot be mistaken for it", "영문 이름과 혼동될 수 있습니다. 다르게 보이는 이름을 사용하세요"),
            Message::UsernameIsId => ("must not look like an id, as usr_ and digits do", "usr_와 숫자로 된 ID 형태의 이름은 사용할 수 없습니다"),
            Message::NickLength => ("must have 1 to 40 visible characters", "눈에 보이는 문자로 1~40자여야 합니다"),
            Message::NickCharacter => ("has a control character, such as a tab or a line break, or one that Unicode does not define; remove it", "탭이나 줄 바꿈 같은 제어 문자 또는 유니코드에 없는 문자가 있습니다. 해당 문자를 삭제하세요"),
            Message::PasswordLength => ("must have 8 to 256 characters", "8~256자여야 합니다"),
            Message::PasswordWeak => ("is too easy to guess; choose a longer one, for example several unrelated words", "추측하기 쉬운 비밀번호입니다. 서로 관련 없는 단어를 여러 개 이어 붙이는 등 더 긴 비밀번호를 사용하세요"),
            Message::UsernameTaken => ("is already taken", "이미 사용 중인 이름입니다"),
            Message::HostTaken => ("is already one of your domains", "이미 등록한 호스트입니다"),
            Message::HostProvenByOther => ("was verified by another user", "다른 사용자가 이미 소유권을 확인한 호스트입니다"),
            Message::Plan => ("must be free or premium", "free 또는 premium이어야 합니다"),
            Message::Scopes => ("must be one or more of this server's scopes, each once", "이 서버에서 지원하는 권한 범위를 하나 이상, 중복 없이 지정해야 합니다"),
            Message::Audiences => ("must be one or more of this server's audiences, each once", "이 서버에서 지원하는 대상(audience)을 하나 이상, 중복 없이 지정해야 합니다"),
            Message::Keys => ("must be a JWK Set of 1 to 4 public keys with names of their own: P-256 (ES256), Ed25519 (EdDSA) or RSA of 2048 to 4096 bits (RS256)", "서로 다른 이름의 공개 키 1~4개로 된 JWK Set이어야 합니다: P-256(ES256), Ed25519(EdDSA), 2048~4096비트 RSA(RS256)"),
            Message::PrivateKeys => ("has a private or symmetric key; keep that key secret and send only the public key", "비공개 키 또는 대칭 키가 포함되어 있습니다. 그 키는 외부에 공개하지 말고 공개 키만 보내세요"),
            Message::NoKeys => ("is for domains that were registered with keys; this domain has a secret", "키로 등록한 도메인에만 사용할 수 있습니다. 이 도메인은 비밀 키를 사용합니다"),
            Message::HasKeys => ("is the id of a domain that authenticates by its keys and has no secret", "키로 인증하는 도메인이며 비밀 키가 없습니다"),
            Message::GraceSeconds => ("must be a number of seconds from 0 to 2592000", "0~2592000 사이의 초 단위 숫자여야 합니다"),
            Message::EndSecretsSince => ("must be a time in Unix seconds, from 0 to 253402300799", "0~253402300799 사이의 유닉스 시각(초)이어야 합니다"),
            Message::Days => ("must be a number from 1 to 400", "1~400 사이의 숫자여야 합니다"),
            Message::Content => ("must have 1 to 140 characters", "1~140자여야 합니다"),
            Message::Img => ("must be an http or https URL of at most 200 characters", "200자 이하의 http 또는 https URL이어야 합니다"),
            Message::Limit => ("must be a number from 1 to 100", "1~100 사이의 숫자여야 합니다"),
            Message::Cursor => ("is not a cursor of this list", "이 목록의 커서가 아닙니다"),
            Message::HostEmpty => ("is empty", "비어 있습니다"),
            Message::HostTooLong => ("is too long for a host name", "호스트 이름이 너무 깁니다"),
            Message::HostOnly => ("must be only a host name, without scheme, user or path", "스킴, 사용자, 경로 없이 호스트 이름만 입력하세요"),
            Message::HostWildcard => ("must not have a wildcard", "와일드카드를 사용할 수 없습니다"),
            Message::HostIp => ("must be a name, not an IP address", "IP 주소가 아닌 이름이어야 합니다"),
            Message::HostPublicSuffix => ("is a public suffix that many owners share", "여러 소유자가 공유하는 공개 접미사입니다"),
            Message::HostSingleLabel => ("must be a full name, such as shop.example.com", "shop.example.com처럼 전체 이름이어야 합니다"),
            Message::HostDots => ("has too many dots", "점이 너무 많습니다"),
            Message::HostCharacter => ("has a character that a host name must not have", "호스트 이름에 사용할 수 없는 문자가 있습니다"),
            Message::HostPort => ("has a port that is no number from 1 to 65535", "포트는 1~65535 사이의 숫자여야 합니다"),
            Message::HostLocal => ("must not be a local host on this server", "이 서버에서는 로컬 호스트를 등록할 수 없습니다"),
            Message::HostSpecial => ("is a special-use name that nobody can own", "아무도 소유할 수 없는 특수 용도 이름입니다"),
            Message::HostIdna => ("is not a valid internationalized domain name (IDN)", "올바른 국제화 도메인 이름(IDN)이 아닙니다"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_known_language_wins() {
        for (header, locale) in [
            ("ko", Some(Locale::Ko)),
            ("ko-KR,ko;q=0.9,en;q=0.8", Some(Locale::Ko)),
            ("EN-us", Some(Locale::En)),
            ("en;q=0.5, ko;q=0.9", Some(Locale::Ko)),
            ("fr, de;q=0.9", None),
            ("fr, ko;q=0.1", Some(Locale::Ko)),
            ("ko;q=0", None),
            ("ko;q=x, en", Some(Locale::En)),
            ("", None),
            (",,;;q=,", None),
        ] {
            assert_eq!(Locale::negotiate(header), locale, "{header}");
        }
    }
}
