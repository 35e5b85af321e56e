//! The texts of responses in English and Korean, and the negotiation of the language.

/// A language that answers can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locale {
    /// English.
    En,
    /// Korean.
    Ko,
}

impl Locale {
    /// The available language of highest weight in an `Accept-Language` value (RFC 9110 §12.5.4). The first one wins a
    /// tie.
    ///
    /// This does not use `actix_web::http::header::AcceptLanguage`, which allocates for each language of each request.
    pub fn negotiate(accept_language: &str) -> Option<Locale> {
        let ranges = accept_language.split(',').take(16).filter_map(weighted);
        ranges.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(locale, _)| locale)
    }
}

/// The language and weight of a range such as `ko-KR;q=0.9`; `None` if the language is not available or refused.
fn weighted(range: &str) -> Option<(Locale, f32)> {
    let mut parts = range.split(';').map(str::trim);
    let primary = parts.next()?.split('-').next()?;
    let is_named = |(name, _): &(&str, Locale)| primary.eq_ignore_ascii_case(name);
    let (_, locale) = [("en", Locale::En), ("ko", Locale::Ko)].into_iter().find(is_named)?;
    let weight = parts.find_map(|parameter| parameter.strip_prefix("q=")).map_or(Ok(1.0), str::parse).ok()?;
    (weight > 0.0).then_some((locale, weight))
}

/// Defines [`Message`]: one row for each text, in English and Korean.
macro_rules! messages {
    ($($name:ident: $english:literal, $korean:literal;)+) => {
        /// A text for people.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Message {
            $(#[doc = $english] $name,)+
        }

        impl Message {
            /// The text in the language `locale`.
            pub fn text(self, locale: Locale) -> &'static str {
                let (english, korean) = match self {
                    $(Message::$name => ($english, $korean),)+
                };
                match locale {
                    Locale::En => english,
                    Locale::Ko => korean,
                }
            }
        }
    };
}

messages! {
    // Successes.
    TokenIssued: "Token issued", "토큰이 발급되었습니다";
    SignedUp: "Welcome", "가입되었습니다";
    SignedIn: "Signed in", "로그인되었습니다";
    SignedOut: "Signed out; this token no longer works", "로그아웃되었습니다. 이 토큰은 더 이상 사용할 수 없습니다";
    SignedOutEverywhere: "Signed out everywhere; earlier tokens no longer work", "모든 곳에서 로그아웃되었습니다. 이전 토큰은 더 이상 사용할 수 없습니다";
    Ok: "OK", "요청이 처리되었습니다";
    PasswordChanged: "Password changed; earlier tokens no longer work", "비밀번호가 변경되었습니다. 이전 토큰은 더 이상 사용할 수 없습니다";
    AccountDeleted: "Account deleted", "계정이 삭제되었습니다";
    DomainRegistered: "Domain registered. Keep the client secret: it is shown only now", "도메인이 등록되었습니다. 클라이언트 비밀 키는 지금만 표시되므로 잘 보관하세요";
    DomainRegisteredWithKeys: "Domain registered. It authenticates by its keys", "도메인이 등록되었습니다. 등록한 키로 인증합니다";
    DomainChanged: "Domain changed", "도메인이 변경되었습니다";
    DomainDeleted: "Domain deleted", "도메인이 삭제되었습니다";
    Revoked: "The token has been revoked", "토큰이 폐기되었습니다";
    NothingRevoked: "Nothing was revoked: this is not a live token of your client", "폐기된 토큰이 없습니다. 이 클라이언트의 유효한 토큰이 아닙니다";
    SecretRotated: "New client secret. Keep it: it is shown only now. The old secrets still work for a while", "새 클라이언트 비밀 키입니다. 지금만 표시되므로 잘 보관하세요. 이전 키는 당분간 사용할 수 있습니다";
    SecretRotatedAtOnce: "New client secret. Keep it: it is shown only now. The old secrets and their tokens no longer work", "새 클라이언트 비밀 키입니다. 지금만 표시되므로 잘 보관하세요. 이전 키와 토큰은 더 이상 사용할 수 없습니다";
    SecretRetired: "Secret retired. It and the domain's earlier tokens no longer work", "비밀 키가 폐기되었습니다. 이 키와 도메인의 이전 토큰은 더 이상 사용할 수 없습니다";
    PostCreated: "Post created", "게시글이 등록되었습니다";
    PostChanged: "Post changed", "게시글이 수정되었습니다";
    PostDeleted: "Post deleted", "게시글이 삭제되었습니다";
    HostVerified: "Control of the host is verified", "호스트 소유권이 확인되었습니다";
    // Errors.
    TokenMissing: "Send a token in the Authorization header", "Authorization 헤더에 토큰을 담아 보내세요";
    TokenInvalid: "The token is not valid: send a token of this server, as it was issued", "유효하지 않은 토큰입니다. 이 서버에서 발급한 토큰을 그대로 보내세요";
    TokenExpired: "The token has expired: request a new one", "토큰이 만료되었습니다. 새 토큰을 발급받으세요";
    TokenRevoked: "The token has been revoked: request a new one", "폐기된 토큰입니다. 새 토큰을 발급받으세요";
    ClientMissing: "No client credentials were sent: send client_id and client_secret, by HTTP Basic or in the form", "클라이언트 인증 정보가 없습니다. client_id와 client_secret을 HTTP Basic 또는 폼으로 보내세요";
    UnreadableBasic: "The Authorization header must be Basic and client_id:client_secret in base64", "Authorization 헤더는 Basic과 base64로 인코딩한 client_id:client_secret이어야 합니다";
    MalformedSecret: "The client secret is not complete: it must be gbs_ and 38 characters, or the UUID of an imported domain, without blanks, quotes or line ends", "클라이언트 비밀 키가 온전하지 않습니다. gbs_와 38자로 된 전체 값(가져온 도메인은 UUID)을 공백, 따옴표, 줄바꿈 없이 보내세요";
    UnknownSecret: "No active domain has this client secret: check that it is the newest one, or make a new one", "이 클라이언트 비밀 키를 가진 활성 도메인이 없습니다. 가장 최근의 비밀 키인지 확인하거나 새로 발급하세요";
    ReplacedSecret: "This client secret was replaced and no longer works: use the newest one", "교체되어 더 이상 사용할 수 없는 클라이언트 비밀 키입니다. 가장 최근의 비밀 키를 사용하세요";
    NoClientId: "The client_id must be the id of the domain, dom_ and 22 characters, not its host or a name", "client_id는 호스트나 이름이 아니라 dom_와 22자로 된 도메인 ID여야 합니다";
    OtherClientId: "The client_id and the credentials belong to different clients: send those of one client", "client_id와 인증 정보가 서로 다른 클라이언트의 것입니다. 같은 클라이언트의 것을 보내세요";
    AssertionType: "The client_assertion_type must be urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion_type은 urn:ietf:params:oauth:client-assertion-type:jwt-bearer여야 합니다";
    Assertion: "The client assertion must be a JWT with iss and sub (both the client_id), aud, exp and jti, signed with a key that is registered for the client", "클라이언트 어서션은 iss와 sub(모두 client_id), aud, exp, jti가 있고 클라이언트에 등록된 키로 서명된 JWT여야 합니다";
    AssertionAudience: "The aud of the client assertion must be the issuer or the URL of the token endpoint", "클라이언트 어서션의 aud는 발급자(issuer) 또는 토큰 엔드포인트의 URL이어야 합니다";
    AssertionExpired: "The client assertion is past its exp: make a new one, and check the clock", "클라이언트 어서션의 exp가 지났습니다. 새로 만들고 시계를 확인하세요";
    AssertionNotYet: "The nbf or iat of the client assertion is more than 10 seconds ahead: check the clock", "클라이언트 어서션의 nbf 또는 iat가 10초 넘게 앞서 있습니다. 시계를 확인하세요";
    AssertionReplayed: "The client assertion was used before: make a new one with a new jti for each request", "이미 사용된 클라이언트 어서션입니다. 요청마다 새 jti로 새로 만드세요";
    AssertionLifetime: "The client assertion lives too long: its exp must be at most 3600 seconds ahead and after its iat", "클라이언트 어서션의 유효 기간이 너무 깁니다. exp는 현재와 iat로부터 3600초 이내여야 합니다";
    ClientSuspended: "The operator suspended this domain or its owner: ask the operator", "운영자가 도메인 또는 소유자를 정지했습니다. 운영자에게 문의하세요";
    ClientSuperseded: "Another user verified the host of this domain: verify it yourself to use the domain again", "다른 사용자가 이 도메인의 호스트를 확인했습니다. 다시 사용하려면 호스트를 직접 확인하세요";
    OtherClient: "The token was not issued to your client: only the client that it was issued to may revoke it", "이 클라이언트에 발급된 토큰이 아닙니다. 토큰을 발급받은 클라이언트만 폐기할 수 있습니다";
    WrongCredentials: "Unknown user or wrong password: check both", "사용자 이름 또는 비밀번호가 올바르지 않습니다. 다시 확인하세요";
    WrongPassword: "The password is wrong: send the present one", "비밀번호가 올바르지 않습니다. 현재 비밀번호를 보내세요";
    SignupClosed: "Sign-up is closed; ask the operator for an account", "현재 회원 가입을 받지 않습니다. 운영자에게 계정을 요청하세요";
    Changed: "It was changed in the meantime; read it again", "그사이에 변경되었습니다. 다시 조회하세요";
    TooManySecrets: "This domain has too many valid secrets; retire some first", "이 도메인에 유효한 비밀 키가 너무 많습니다. 먼저 일부를 폐기하세요";
    LacksScope: "The token lacks the scope for this: request a token that has it", "토큰에 필요한 권한 범위가 없습니다. 해당 범위의 토큰을 발급받으세요";
    WrongHost: "The token was issued to a domain of another host: use a token of this host's domain", "다른 호스트의 도메인에 발급된 토큰입니다. 이 호스트의 도메인에 발급된 토큰을 사용하세요";
    HostUnverified: "Control of the token's host is not verified: the domain's owner must verify it", "토큰의 호스트 소유권이 확인되지 않았습니다. 도메인 소유자가 먼저 확인해야 합니다";
    RequirementOfCaller: "A request cannot state requirements for its own token in its query", "요청의 쿼리로는 토큰의 요구 조건을 지정할 수 없습니다";
    UserTokenNeeded: "This needs a user token: sign in", "사용자 토큰이 필요합니다. 로그인하세요";
    ClientTokenNeeded: "This needs a client's access token: request one at /token", "클라이언트의 액세스 토큰이 필요합니다. /token에서 발급받으세요";
    Malformed: "The request is malformed", "요청 형식이 올바르지 않습니다";
    Json: "The body is not valid JSON: see line {line}, column {column}", "본문이 올바른 JSON이 아닙니다. {line}번째 줄 {column}번째 자리를 확인하세요";
    NotAnObject: "The body must be a JSON object", "본문은 JSON 객체여야 합니다";
    NoBody: "This request needs a body: send a JSON object with Content-Type: application/json", "본문이 필요한 요청입니다. Content-Type: application/json으로 JSON 객체를 보내세요";
    TwoTypes: "Send one Content-Type header only", "Content-Type 헤더는 하나만 보내세요";
    GrantType: "grant_type must be client_credentials", "grant_type은 client_credentials여야 합니다";
    ScopeTooMuch: "The scope is unknown or not allowed for this domain: without scope, the token has all scopes that the domain may have", "알 수 없거나 도메인에 허용되지 않은 권한 범위입니다. scope를 생략하면 허용된 모든 범위로 발급됩니다";
    InvalidTarget: "The resource is unknown or not allowed for this domain: without resource, the token is for this server", "토큰을 발급할 수 없는 resource입니다. resource를 생략하면 이 서버용으로 발급됩니다";
    TwoAuthentications: "Authenticate in one way only: in the header or in the body", "인증 정보는 헤더와 본문 중 한 곳에만 보내세요";
    RepeatedParameter: "A parameter must be sent only once", "같은 매개변수를 두 번 보낼 수 없습니다";
    NotFound: "Not found: check the path and the id", "찾을 수 없습니다. 경로와 ID를 확인하세요";
    NoResults: "No results", "검색 결과가 없습니다";
    Method: "This method is not allowed here: use one that the Allow header names", "허용되지 않은 메서드입니다. Allow 헤더에 있는 메서드를 사용하세요";
    TooLarge: "The body is too large: send at most 16 KiB, or 64 KiB for a post", "본문이 너무 큽니다. 16 KiB 이하(게시글은 64 KiB 이하)로 보내세요";
    HeadTooLarge: "The request's head is too large: send at most 16 KiB of headers", "요청 헤더가 너무 큽니다. 헤더는 16 KiB 이하여야 합니다";
    RequestTimeout: "The request did not arrive in time: check the connection and try again", "요청이 제시간에 도착하지 않았습니다. 연결을 확인하고 다시 시도하세요";
    SendJson: "Send JSON with Content-Type: application/json", "Content-Type: application/json으로 JSON을 보내세요";
    SendForm: "Send a form with Content-Type: application/x-www-form-urlencoded", "Content-Type: application/x-www-form-urlencoded로 폼을 보내세요";
    SendJsonOrForm: "Send JSON with Content-Type: application/json, or a form with application/x-www-form-urlencoded", "Content-Type: application/json으로 JSON을, 또는 application/x-www-form-urlencoded로 폼을 보내세요";
    ContentEncoding: "A body with Content-Encoding is not accepted: send it uncompressed, without that header", "Content-Encoding이 있는 본문은 읽지 않습니다. 압축하지 않고 이 헤더 없이 보내세요";
    Charset: "The body must be UTF-8: send no other charset in Content-Type", "본문은 UTF-8이어야 합니다. Content-Type에 다른 charset을 지정하지 마세요";
    Origin: "No domain is registered for the host of this web page: register it first", "이 웹 페이지의 호스트는 등록된 도메인이 아닙니다. 먼저 등록하세요";
    HttpOrigin: "The host of this web page is registered, but only its https pages may call: open the page by https", "이 웹 페이지의 호스트는 등록되어 있지만 https 페이지에서만 호출할 수 있습니다. https로 여세요";
    SecretInBrowser: "A client secret does not belong in a browser: ask for tokens from your server, and replace this secret", "클라이언트 비밀 키는 브라우저에서 사용할 수 없습니다. 서버에서 토큰을 요청하고 이 비밀 키를 교체하세요";
    Sunset: "This version of the API has ended: use a later one", "이 버전의 API는 종료되었습니다. 다음 버전을 사용하세요";
    PlanLimit: "The domain's plan allows no more requests now: wait as long as Retry-After says", "도메인 요금제의 요청 한도를 초과했습니다. Retry-After만큼 기다린 후 다시 시도하세요";
    PlanLimitButToken: "The domain's plan allows no more requests now; your last token is good for another {} s", "도메인 요금제의 요청 한도를 초과했습니다. 마지막으로 발급된 토큰을 {}초 더 사용할 수 있습니다";
    NetworkLimit: "Too many requests from your network; wait a moment", "같은 네트워크에서 보낸 요청이 너무 많습니다. 잠시 후 다시 시도하세요";
    AccountLimit: "Too many changes by your account; wait a moment", "계정에서 변경 요청을 너무 많이 보냈습니다. 잠시 후 다시 시도하세요";
    FailureLimit: "Too many wrong credentials from your network; check them and wait a moment", "같은 네트워크에서 보낸 잘못된 인증 정보가 너무 많습니다. 확인한 뒤 잠시 후 다시 시도하세요";
    PasswordLimit: "Too many wrong passwords for this name; wait before you try again", "비밀번호를 너무 여러 번 틀렸습니다. 잠시 후 다시 시도하세요";
    PlanNotGranted: "Only the operator grants this plan: choose another one and ask the operator", "운영자만 부여할 수 있는 요금제입니다. 다른 요금제를 선택한 뒤 운영자에게 요청하세요";
    DomainQuota: "You have the maximum number of domains: delete one first", "등록할 수 있는 도메인 수를 모두 사용했습니다. 먼저 도메인을 삭제하세요";
    PostQuota: "You have the maximum number of posts: delete one first", "작성할 수 있는 게시글 수를 모두 사용했습니다. 먼저 게시글을 삭제하세요";
    MaxUsers: "This server has the maximum number of accounts (MAX_USERS): ask the operator", "운영자가 허용한 계정 수(MAX_USERS)에 도달하여 더 이상 계정을 만들 수 없습니다. 운영자에게 문의하세요";
    MaxDomains: "This server has the maximum number of domains (MAX_DOMAINS): ask the operator", "운영자가 허용한 도메인 수(MAX_DOMAINS)에 도달하여 더 이상 도메인을 등록할 수 없습니다. 운영자에게 문의하세요";
    DomainSuspended: "The operator suspended this domain: ask the operator to resume it", "운영자가 정지한 도메인입니다. 운영자만 정지를 해제할 수 있습니다";
    Busy: "Temporarily unavailable; try again in a moment", "일시적으로 사용할 수 없습니다. 잠시 후 다시 시도하세요";
    CommitUnknown: "The change may have been made but may not be in force yet; check before you try again", "변경되었을 수 있으나 적용 여부를 확인하지 못했습니다. 다시 시도하기 전에 변경되었는지 확인하세요";
    DomainUnverified: "Control of the domain's host is not verified: verify it first", "도메인 호스트의 소유권이 확인되지 않았습니다. 먼저 소유권을 확인하세요";
    VerificationFailed: "The challenge was not found on the host: publish it and try again", "호스트에서 확인 값을 찾지 못했습니다. 확인 값을 게시한 후 다시 시도하세요";
    Tries: "Too many attempts; wait a moment", "시도 횟수가 너무 많습니다. 잠시 후 다시 시도하세요";
    Internal: "Server error: tell the operator the requestId", "서버 오류가 발생했습니다. 운영자에게 requestId를 알려 주세요";
    // Results of verification checks.
    FoundMatch: "The challenge was found", "확인 값을 찾았습니다";
    FoundNoRecord: "There is no TXT record of this name", "이 이름의 TXT 레코드가 없습니다";
    FoundOtherValue: "The record or file has another value", "다른 값이 있습니다. 확인 값을 그대로 게시하세요";
    FoundNoAddress: "The host has no address in DNS", "DNS에 호스트의 주소가 없습니다";
    FoundPrivateAddress: "The host has an address that is not public", "호스트의 주소 중 공인 IP가 아닌 것이 있습니다";
    FoundNoAnswer: "The DNS servers did not answer", "DNS 서버가 응답하지 않았습니다";
    FoundPort: "Files are checked on ports 80, 443 and 1024 or higher only", "파일은 80, 443 및 1024 이상의 포트에서만 확인합니다";
    FoundUnreachable: "The host could not be reached", "호스트에 연결할 수 없습니다";
    FoundTls: "The host has no TLS or no trusted certificate", "TLS를 사용할 수 없거나 신뢰할 수 있는 인증서가 아닙니다";
    FoundNotHttp: "The response was not HTTP", "HTTP 응답이 아닙니다";
    FoundRedirect: "The response was a redirect, which is not followed", "리디렉션 응답이며, 리디렉션은 따라가지 않습니다";
    FoundStatus: "The status of the response was not 200", "응답 상태가 200이 아닙니다";
    FoundTooLarge: "The response was too large", "응답이 너무 큽니다";
    FoundTimeout: "The host did not answer in time", "호스트가 제시간에 응답하지 않았습니다";
    FoundLimited: "Too many verifications connected to this host's address; try again in a minute, or use the DNS record", "이 호스트의 주소에 대한 확인 요청이 너무 많습니다. 1분 후 다시 시도하거나 DNS 레코드를 사용하세요";
    // Problems of a member, which follow its name.
    Unknown: "is not a member of this request: leave it out", "알 수 없는 항목입니다. 이 항목을 빼고 보내세요";
    UnknownInTokenRequest: "is unknown: a JSON request has clientSecret only; send members of OAuth 2.0 as application/x-www-form-urlencoded", "JSON에서는 clientSecret만 사용할 수 있습니다. OAuth 2.0 항목은 application/x-www-form-urlencoded로 보내세요";
    Required: "is required", "필수 항목입니다";
    WrongType: "has the wrong type", "형식이 올바르지 않습니다";
    UsernameLength: "must have 3 to 40 characters", "3~40자여야 합니다";
    UsernameCharacter: "must have only letters, digits and . _ - + @, and no blank, invisible, full-width or other special character", "글자와 숫자, . _ - + @ 만 사용할 수 있으며 공백, 보이지 않는 문자, 전각 문자 등 특수한 문자는 사용할 수 없습니다";
    UsernameScripts: "must have letters of one script only, such as a to z or Hangul", "영문 또는 한글처럼 한 가지 문자 체계의 글자만 사용해야 합니다";
    UsernameLookalike: "looks like a name in the letters a to z; choose one that cannot be mistaken for it", "영문 이름과 혼동될 수 있습니다. 다르게 보이는 이름을 사용하세요";
    UsernameIsId: "must not look like an id (usr_ and digits)", "usr_와 숫자로 된 ID 형태의 이름은 사용할 수 없습니다";
    NickLength: "must have 1 to 40 visible characters", "눈에 보이는 문자로 1~40자여야 합니다";
    NickCharacter: "has a control character, such as a tab or a line break, or one that Unicode does not define; remove it", "탭이나 줄 바꿈 같은 제어 문자 또는 유니코드에 없는 문자가 있습니다. 해당 문자를 삭제하세요";
    PasswordLength: "must have 8 to 256 characters", "8~256자여야 합니다";
    PasswordWeak: "is too easy to guess; choose a longer one, for example several unrelated words", "추측하기 쉬운 비밀번호입니다. 서로 관련 없는 단어를 여러 개 이어 붙이는 등 더 긴 비밀번호를 사용하세요";
    UsernameTaken: "is already taken: choose another", "이미 사용 중인 이름입니다. 다른 이름을 사용하세요";
    HostTaken: "is already one of your domains", "이미 등록한 호스트입니다";
    HostVerifiedByOther: "was verified by another user: if the host is yours, ask the operator", "다른 사용자가 이미 소유권을 확인한 호스트입니다. 본인의 호스트라면 운영자에게 문의하세요";
    UnknownPlan: "must be one of {}", "{} 중 하나여야 합니다";
    Scopes: "must be one or more of this server's scopes, each once", "이 서버에서 지원하는 권한 범위를 하나 이상, 중복 없이 지정해야 합니다";
    Audiences: "must be one or more of this server's audiences, each once", "이 서버에서 지원하는 대상(audience)을 하나 이상, 중복 없이 지정해야 합니다";
    Keys: "must be a JWK Set of 1 to 4 public keys with distinct kid values: P-256 (ES256), Ed25519 (EdDSA) or RSA of 2048 to 4096 bits (RS256)", "서로 다른 이름의 공개 키 1~4개로 된 JWK Set이어야 합니다: P-256(ES256), Ed25519(EdDSA), 2048~4096비트 RSA(RS256)";
    PrivateKeys: "has a private or symmetric key; keep that key secret and send only the public key", "비공개 키 또는 대칭 키가 포함되어 있습니다. 그 키는 외부에 공개하지 말고 공개 키만 보내세요";
    NoKeys: "is only for domains that were registered with keys; this domain has a secret", "키로 등록한 도메인에만 사용할 수 있습니다. 이 도메인은 비밀 키를 사용합니다";
    HasKeys: "is the id of a domain that authenticates by its keys and has no secret", "키로 인증하는 도메인이며 비밀 키가 없습니다";
    GraceSeconds: "must be a number of seconds from 0 to 2592000", "0~2592000 사이의 초 단위 숫자여야 합니다";
    EndSecretsSince: "must be a time in Unix seconds, from 0 to 253402300799", "0~253402300799 사이의 유닉스 시각(초)이어야 합니다";
    Days: "must be a number from 1 to 400", "1~400 사이의 숫자여야 합니다";
    Content: "must have 1 to 140 characters", "1~140자여야 합니다";
    Img: "must be an http or https URL of at most 200 characters", "200자 이하의 http 또는 https URL이어야 합니다";
    Limit: "must be a number from 1 to 100", "1~100 사이의 숫자여야 합니다";
    Cursor: "is not a cursor of this list", "이 목록의 커서가 아닙니다";
    HostEmpty: "is empty", "비어 있습니다";
    HostTooLong: "is too long for a host name", "호스트 이름이 너무 깁니다";
    HostOnly: "must be only a host name, without scheme, user or path", "스킴, 사용자, 경로 없이 호스트 이름만 입력하세요";
    HostWildcard: "must not have a wildcard", "와일드카드를 사용할 수 없습니다";
    HostIp: "must be a name, not an IP address", "IP 주소가 아닌 이름이어야 합니다";
    HostPublicSuffix: "is a public suffix that many owners share", "여러 소유자가 공유하는 공개 접미사입니다";
    HostSingleLabel: "must be a full name, such as shop.example.com", "shop.example.com처럼 전체 이름이어야 합니다";
    HostDots: "has too many dots", "점이 너무 많습니다";
    HostCharacter: "has a character that a host name must not have", "호스트 이름에 사용할 수 없는 문자가 있습니다";
    HostHyphen: "has a hyphen where a host name must not have one", "하이픈(-)을 사용할 수 없는 위치에 하이픈이 있습니다";
    HostPort: "has a port that is not a number from 1 to 65535", "포트는 1~65535 사이의 숫자여야 합니다";
    HostLocal: "is a local host, which this server does not allow", "이 서버에서는 로컬 호스트를 등록할 수 없습니다";
    HostSpecial: "is a special-use name, which cannot be registered", "아무도 소유할 수 없는 특수 용도 이름입니다";
    HostIdna: "is not a valid internationalized domain name (IDN)", "올바른 국제화 도메인 이름(IDN)이 아닙니다";
}
