"""Authlib, used like in its documentation: OAuth2Session, with the addresses of the server's RFC 8414 metadata."""

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from joserfc.jwk import ECKey, OKPKey, RSAKey

from checks import ISSUER, TEST_URL, check, equal, life, raises, refusals, register

metadata = AuthorizationServerMetadata(requests.get(get_well_known_url(ISSUER, external=True)).json())


class Library:
    error_kind = OAuthError

    def __init__(self, client_id, secret, method, assertion=None):
        self.id = client_id
        self.session = OAuth2Session(
            client_id,
            secret,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
            leeway=5,  # with the default of a minute, the life of a token, every token would count as expired
        )
        if assertion:
            self.session.register_client_auth_method(assertion)

    def token(self, **parameters):
        return self.session.fetch_token(metadata.token_endpoint, grant_type="client_credentials", **parameters)

    def call(self, token):
        self.session.token = {"access_token": token, "token_type": "Bearer"}
        return self.session.get(TEST_URL).status_code

    def introspect(self, token):
        return self.session.introspect_token(metadata.introspection_endpoint, token=token).json()

    def revoke(self, token):
        return self.session.revoke_token(metadata.revocation_endpoint, token=token).status_code


with check("the metadata is sound"):
    # `validate()` requires response types, which a server without an authorization endpoint does not have.
    for member in set(metadata.REGISTRY_KEYS) - {"response_types_supported"}:
        getattr(metadata, f"validate_{member}")()

client_id, secret = register()
basic = Library(client_id, secret, "client_secret_basic")
life("client_secret_basic", basic)
life("client_secret_post", Library(client_id, secret, "client_secret_post"))
refusals(basic, Library(client_id, "wrong", "client_secret_basic"))

KEYS = {"ES256": ECKey.generate_key("P-256"), "EdDSA": OKPKey.generate_key("Ed25519"), "RS256": RSAKey.generate_key(2048)}
for alg, key in KEYS.items():
    client_id, _ = register(jwks={"keys": [key.as_dict(private=False)]})
    # The audience is the token endpoint, as in the documentation, or by default the endpoint in use.
    documented = PrivateKeyJWT(metadata.token_endpoint, alg=alg)
    life(f"private_key_jwt {alg}", Library(client_id, key, "private_key_jwt", documented))
    unnamed = PrivateKeyJWT(alg=alg)
    life(f"private_key_jwt {alg}, audience by itself", Library(client_id, key, "private_key_jwt", unnamed))
    with check(f"private_key_jwt {alg}: a replayed assertion is invalid_client"):
        once = PrivateKeyJWT(metadata.token_endpoint, {"jti": "once"}, alg=alg)
        replaying = Library(client_id, key, "private_key_jwt", once)
        replaying.token()
        with raises(OAuthError) as caught:
            replaying.token()
        equal(caught[-1].error, "invalid_client")
