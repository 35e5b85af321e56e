"""PyJWT verifies tokens offline with the server's JWKS."""

import os
import subprocess

import jwt

from checks import ALGORITHM, AUDIENCE, ISSUER, Issuer, check, equal, raises, tampered

issuer = Issuer()


def verify(keys, token, audience=ISSUER, **more):
    """Like in PyJWT's documentation. PyJWT does not check `typ`, so it is compared here."""
    key = keys.get_signing_key_from_jwt(token)
    decoded = jwt.decode_complete(token, key, algorithms=[ALGORITHM], issuer=ISSUER, audience=audience, **more)
    equal(decoded["header"]["typ"], "at+jwt")
    return decoded["payload"]


def kid_of(token):
    return jwt.get_unverified_header(token)["kid"]


def verification():
    keys = jwt.PyJWKClient(issuer.metadata["jwks_uri"])
    token = issuer.token()

    with check("a token verifies"):
        claims = verify(keys, token, options={"require": ["iss", "aud", "exp", "iat", "jti", "sub"]})
        equal(claims["client_id"], issuer.id)
        equal(claims["scope"], "posts:read posts:write")
    with check("a token for another audience verifies there"):
        equal(verify(keys, issuer.token(resource=AUDIENCE), audience=AUDIENCE)["aud"], [AUDIENCE])
    with check("a tampered token is refused"), raises(jwt.InvalidSignatureError):
        verify(keys, tampered(token))
    with check("a wrong audience is refused"), raises(jwt.InvalidAudienceError):
        verify(keys, token, audience=AUDIENCE)
    with check("a token is refused once its time is over"), raises(jwt.ExpiredSignatureError):
        # PyJWT has no adjustable clock. A leeway of minus a minute is the same as a minute later.
        verify(keys, token, leeway=-60, options={"verify_iat": False})


def rotation():
    with check("after a rotation new tokens verify with a cached JWKS, and so do earlier ones"):
        # By default PyJWT refetches the JWKS for an unknown key at most every 30 s. Here the rotation is immediate, instead
        # of 15 minutes after the publication of the next key.
        keys = jwt.PyJWKClient(issuer.metadata["jwks_uri"], cooldown_duration=0)
        before = issuer.token()
        verify(keys, before)
        cached = {key.key_id for key in keys.get_signing_keys()}

        subprocess.run([os.environ["GATEBIRD_BIN"], "key", "rotate", "--now"], check=True, stdout=subprocess.DEVNULL)
        after = issuer.token_of_another_key(kid_of(before), kid_of)

        assert kid_of(after) not in cached
        verify(keys, after)
        verify(keys, before)


if ALGORITHM == "HS256":
    with check("the key set has no key to verify with: a shared secret is never published"), raises(jwt.PyJWTError):
        jwt.PyJWKClient(issuer.metadata["issuer"] + "/.well-known/jwks.json").get_signing_keys()
else:
    verification()
    rotation()
