//! The crate `oauth2`, used like in its documentation, blocking. It has no discovery: the addresses are read from the
//! server's metadata.

use std::env;
use std::error::Error;

use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicRequestTokenError, BasicTokenResponse};
use oauth2::reqwest::blocking::Client as Http;
use oauth2::reqwest::redirect;
use oauth2::{
    AccessToken, AuthType, ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpClientError, HttpRequest,
    IntrospectionUrl, RequestTokenError, RevocationUrl, Scope, StandardRevocableToken, SyncHttpClient,
    TokenIntrospectionResponse, TokenResponse, TokenUrl,
};
use serde_json::{Value, json};

type Fallible<T> = Result<T, Box<dyn Error>>;
type TokenError = BasicRequestTokenError<HttpClientError<oauth2::reqwest::Error>>;
type Client = BasicClient<EndpointNotSet, EndpointNotSet, EndpointSet, EndpointSet, EndpointSet>;

fn main() -> Fallible<()> {
    let gate = Gate::discover()?;
    let (id, secret) = gate.register()?;
    let basic = gate.client(&id, &secret, AuthType::BasicAuth)?;
    gate.life("client_secret_basic", &basic);
    gate.life("client_secret_post", &gate.client(&id, &secret, AuthType::RequestBody)?);
    gate.refusals(&basic, &gate.client(&id, "wrong", AuthType::BasicAuth)?);
    Ok(())
}

/// The server under test.
struct Gate {
    issuer: String,
    metadata: Value,
    http: Http,
}

impl Gate {
    fn discover() -> Fallible<Self> {
        let issuer = env::var("GATE_ISSUER")?;
        let http = Http::builder().redirect(redirect::Policy::none()).build()?;
        let document = http.get(format!("{issuer}/.well-known/oauth-authorization-server")).send()?;
        let metadata = serde_json::from_str(&document.error_for_status()?.text()?)?;
        Ok(Self { issuer, metadata, http })
    }

    fn endpoint(&self, member: &str) -> Fallible<String> {
        Ok(self.metadata[member].as_str().ok_or_else(|| format!("no {member} in the metadata"))?.to_owned())
    }

    /// Registers a domain and returns its id and secret.
    fn register(&self) -> Fallible<(String, String)> {
        let domain = json!({"host": format!("crate-{}.example.com", std::process::id()), "type": "free"});
        let request = self.http.post(format!("{}/v1/domains", self.issuer)).bearer_auth(env::var("GATE_USER_TOKEN")?);
        let response = request.header("content-type", "application/json").body(domain.to_string()).send()?;
        let body: Value = serde_json::from_str(&response.error_for_status()?.text()?)?;
        let text = |member: &str| body["payload"][member].as_str().map(str::to_owned).ok_or("registration");
        Ok((text("id")?, text("clientSecret")?))
    }

    fn client(&self, id: &str, secret: &str, method: AuthType) -> Fallible<Client> {
        // The crate refuses to revoke without TLS, as RFC 7009 requires; see `without_tls`.
        let revocation = self.endpoint("revocation_endpoint")?.replacen("http://", "https://", 1);
        Ok(BasicClient::new(ClientId::new(id.to_owned()))
            .set_client_secret(ClientSecret::new(secret.to_owned()))
            .set_auth_type(method)
            .set_token_uri(TokenUrl::new(self.endpoint("token_endpoint")?)?)
            .set_introspection_url(IntrospectionUrl::new(self.endpoint("introspection_endpoint")?)?)
            .set_revocation_url(RevocationUrl::new(revocation)?))
    }

    /// Stands for the proxy that terminates TLS: the request arrives as plain HTTP.
    fn without_tls(
        &self,
        mut request: HttpRequest,
    ) -> Result<oauth2::HttpResponse, HttpClientError<oauth2::reqwest::Error>> {
        *request.uri_mut() = request.uri().to_string().replacen("https://", "http://", 1).parse().expect("an address");
        self.http.call(request)
    }

    fn token(
        &self,
        client: &Client,
        scope: Option<&str>,
        resource: Option<&str>,
    ) -> Result<BasicTokenResponse, TokenError> {
        let mut request = client.exchange_client_credentials();
        if let Some(scope) = scope {
            request = request.add_scope(Scope::new(scope.to_owned()));
        }
        if let Some(resource) = resource {
            request = request.add_extra_param("resource", resource.to_owned());
        }
        request.request(&self.http)
    }

    fn call(&self, token: &AccessToken) -> Fallible<u16> {
        let request = self.http.get(format!("{}/v1/test", self.issuer)).bearer_auth(token.secret());
        Ok(request.send()?.status().as_u16())
    }

    /// Checks the life of a token with one method of client authentication.
    fn life(&self, label: &str, client: &Client) {
        let mut token = AccessToken::new(String::new());
        check(&format!("{label}: a token is granted"), || {
            let answer = self.token(client, None, None)?;
            token = answer.access_token().clone();
            equal(answer.token_type().as_ref(), "bearer")?;
            equal(answer.expires_in().map(|time| time.as_secs()), Some(60))?;
            equal(scopes(answer.scopes()), "posts:read posts:write".to_owned())
        });
        check(&format!("{label}: the API accepts it"), || equal(self.call(&token)?, 200));
        check(&format!("{label}: introspection returns active"), || {
            let answer = client.introspect(&token).request(&self.http)?;
            equal(answer.active(), true)?;
            equal(answer.client_id(), Some(client.client_id()))?;
            equal(answer.iss(), Some(self.issuer.as_str()))?;
            equal(scopes(answer.scopes()), "posts:read posts:write".to_owned())
        });
        check(&format!("{label}: it is revoked"), || {
            let revocation = client.revoke_token(StandardRevocableToken::from(token.clone()))?;
            Ok(revocation.request(&|request| self.without_tls(request))?)
        });
        check(&format!("{label}: it is then inactive, and the API answers 401"), || {
            equal(client.introspect(&token).request(&self.http)?.active(), false)?;
            equal(self.call(&token)?, 401)
        });
    }

    /// Checks refusals. `impostor` is the same client with a wrong secret.
    fn refusals(&self, client: &Client, impostor: &Client) {
        check("a wrong client secret is invalid_client", || {
            refused(self.token(impostor, None, None), BasicErrorResponseType::InvalidClient)
        });
        check("an unknown scope is invalid_scope", || {
            refused(self.token(client, Some("no:such"), None), BasicErrorResponseType::InvalidScope)
        });
        check("an unknown resource is invalid_target", || {
            let invalid_target = BasicErrorResponseType::Extension("invalid_target".to_owned());
            refused(self.token(client, None, Some("https://no.such.example")), invalid_target)
        });
        check("a narrower scope is granted as asked", || {
            equal(scopes(self.token(client, Some("posts:read"), None)?.scopes()), "posts:read".to_owned())
        });
    }
}

/// Prints one line of the report. A failed check does not stop the program.
fn check(name: &str, body: impl FnOnce() -> Fallible<()>) {
    match body() {
        Ok(()) => println!("ok {name}"),
        Err(error) => println!("FAIL {name}: {}", format!("{error:?}").replace('\n', " | ")),
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(actual: T, expected: T) -> Fallible<()> {
    if actual == expected { Ok(()) } else { Err(format!("{actual:?}, expected {expected:?}").into()) }
}

fn refused(answer: Result<BasicTokenResponse, TokenError>, expected: BasicErrorResponseType) -> Fallible<()> {
    match answer {
        Err(RequestTokenError::ServerResponse(refusal)) => equal(refusal.error(), &expected),
        other => Err(format!("{other:?}, expected {expected:?}").into()),
    }
}

fn scopes(scopes: Option<&Vec<Scope>>) -> String {
    scopes.map(|scopes| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}
