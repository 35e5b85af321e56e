"""joserfc verifies tokens offline with the server's JWKS."""

from joserfc import jwt
from joserfc.errors import BadSignatureError, ExpiredTokenError, InvalidClaimError
from joserfc.jwk import KeySet

from checks import ALGORITHM, AUDIENCE, ISSUER, Issuer, check, equal, raises, tampered

issuer = Issuer()


def verify(keys, token, audience=ISSUER, **clock):
    """Like in joserfc's documentation. joserfc does not check `typ`, so it is compared here."""
    decoded = jwt.decode(token, keys, algorithms=[ALGORITHM])
    equal(decoded.header["typ"], "at+jwt")
    demands = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
        **clock,
    )
    demands.validate(decoded.claims)
    return decoded


def verification():
    keys = KeySet.import_key_set(issuer.jwks())
    token = issuer.token()

    with check("a token verifies"):
        claims = verify(keys, token).claims
        equal(claims["client_id"], issuer.id)
        equal(claims["scope"], "posts:read posts:write")
    with check("a token for another audience verifies there"):
        equal(verify(keys, issuer.token(resource=AUDIENCE), audience=AUDIENCE).claims["aud"], [AUDIENCE])
    with check("a tampered token is refused"), raises(BadSignatureError):
        verify(keys, tampered(token))
    with check("a wrong audience is refused"), raises(InvalidClaimError):
        verify(keys, token, audience=AUDIENCE)
    with check("a token is refused once its time is over"), raises(ExpiredTokenError):
        verify(keys, token, now=jwt.decode(token, keys, algorithms=[ALGORITHM]).claims["exp"])
    with check("the kid is the RFC 7638 thumbprint"):
        assert keys.keys, "no key is published"
        for key in keys.keys:
            equal(key.kid, key.thumbprint())
        assert verify(keys, token).header["kid"] in {key.kid for key in keys.keys}


if ALGORITHM == "HS256":
    with check("the metadata names no key set: a shared secret is never published"):
        equal(issuer.metadata.get("jwks_uri"), None)
else:
    verification()
