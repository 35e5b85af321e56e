"""What the scripts of this folder share: where the server is, how a domain is registered, and what every OAuth 2.0 library
has to get from it. A script says how its library does a thing; this file says what must come of it."""

import base64
import json
import os
import time
import traceback
import uuid
from contextlib import contextmanager

import requests

ISSUER = os.environ["GATE_ISSUER"]
ALGORITHM = os.environ["GATE_ALGORITHM"]
AUDIENCE = os.environ["GATE_AUDIENCE"]  # an audience beside the issuer that the server may name in tokens
TEST_URL = ISSUER + "/v1/test"
METADATA_URL = ISSUER + "/.well-known/oauth-authorization-server"


@contextmanager
def check(name):
    """One line of the report. A check that fails does not keep the next one from running."""
    try:
        yield
    except Exception:
        print(f"FAIL {name}: {' | '.join(traceback.format_exc().strip().splitlines()[-12:])}", flush=True)
    else:
        print(f"ok {name}", flush=True)


def equal(actual, expected):
    if actual != expected:
        raise AssertionError(f"{actual!r}, expected {expected!r}")


@contextmanager
def raises(*kinds):
    """Gives the error that the block must end with, as the last item of a list."""
    caught = []
    try:
        yield caught
    except kinds as error:
        caught.append(error)
    else:
        raise AssertionError(f"nothing was raised, expected {kinds}")


def register(**credentials):
    """Registers a domain: with a client secret, or with `jwks=...` for private_key_jwt. Gives its id and secret."""
    domain = {
        "host": f"{uuid.uuid4()}.example.com",
        "type": "free",
        "scopes": ["posts:read", "posts:write"],
        "audiences": [ISSUER, AUDIENCE],
        **credentials,
    }
    user = {"Authorization": "Bearer " + os.environ["GATE_USER_TOKEN"]}
    response = requests.post(ISSUER + "/v1/domains", json=domain, headers=user)
    if response.status_code != 201:
        raise RuntimeError(f"registration: {response.text}")
    payload = response.json()["payload"]
    return payload["id"], payload.get("clientSecret")


def life(label, library):
    """The life of a token, by one library and one way of client authentication.

    `library` has `id` (the client's), `token(**parameters)` -> the token endpoint's answer, `call(token)` -> the status of
    the API, `introspect(token)` -> the endpoint's answer, and `revoke(token)` -> the status.
    """
    token = None
    with check(f"{label}: a token is granted"):
        answer = library.token()
        token = answer["access_token"]
        equal(answer["token_type"].lower(), "bearer")
        equal(answer["expires_in"], 60)
        # requests-oauthlib makes a list of it.
        equal(as_text(answer["scope"]), "posts:read posts:write")
    with check(f"{label}: the API takes it"):
        equal(library.call(token), 200)
    with check(f"{label}: introspection says active"):
        answer = library.introspect(token)
        equal(answer["active"], True)
        equal(answer["client_id"], library.id)
        equal(answer["iss"], ISSUER)
        equal(answer["scope"], "posts:read posts:write")
    with check(f"{label}: it is revoked"):
        equal(library.revoke(token), 200)
    with check(f"{label}: it is inactive then, and the API answers 401"):
        equal(library.introspect(token)["active"], False)
        equal(library.call(token), 401)


def refusals(library, impostor):
    """What is refused, and how the library tells it: an error of the library's own kind with the RFC's word in it.
    `impostor` is the same library with a wrong secret."""

    def refused(name, word, attempt):
        with check(f"{name} is {word}"):
            with raises(library.error_kind) as caught:
                attempt()
            equal(caught[-1].error, word)

    refused("a wrong client secret", "invalid_client", impostor.token)
    refused("an unknown scope", "invalid_scope", lambda: library.token(scope="no:such"))
    refused("an unknown resource", "invalid_target", lambda: library.token(resource="https://no.such.example"))
    with check("a narrower scope is granted as asked"):
        equal(as_text(library.token(scope="posts:read")["scope"]), "posts:read")


def as_text(scope):
    return scope if isinstance(scope, str) else " ".join(scope)


class Issuer:
    """Tokens and keys over plain HTTP, for the scripts that try a verifier."""

    def __init__(self):
        self.metadata = requests.get(METADATA_URL).json()
        self.id, self._secret = register()

    def token(self, **parameters):
        form = {"grant_type": "client_credentials", **parameters}
        return requests.post(self.metadata["token_endpoint"], data=form, auth=(self.id, self._secret)).json()["access_token"]

    def token_of_another_key(self, kid, kid_of):
        """After a rotation: a key that is to sign at once does so when all nodes know it, in a few seconds."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            token = self.token()
            if kid_of(token) != kid:
                return token
            time.sleep(0.05)
        raise AssertionError("the server still signs with the old key")

    def jwks(self):
        return requests.get(self.metadata["jwks_uri"]).json()


def tampered(token):
    """The same token with one more scope, and so with a signature that does not fit."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["scope"] += " admin"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return ".".join([header, forged, signature])
