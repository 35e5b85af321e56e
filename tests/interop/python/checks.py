"""Shared by the scripts of this folder: the server's addresses, the registration of a domain, and the results that every
OAuth 2.0 library must get. A script contains only the calls of its library."""

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
AUDIENCE = os.environ["GATE_AUDIENCE"]  # an audience that tokens can have besides the issuer
TEST_URL = ISSUER + "/v1/test"
METADATA_URL = ISSUER + "/.well-known/oauth-authorization-server"


@contextmanager
def check(name):
    """Prints one line of the report. A failed check does not stop the script."""
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
    """Expects the block to raise an error. Yields a list whose last item is then that error."""
    caught = []
    try:
        yield caught
    except kinds as error:
        caught.append(error)
    else:
        raise AssertionError(f"nothing was raised, expected {kinds}")


def register(**credentials):
    """Registers a domain with a client secret, or with `jwks=...` for private_key_jwt. Returns its id and secret."""
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
    """Checks the life of a token with one library and one method of client authentication.

    `library` has `id` (the client's), `token(**parameters)` -> the token endpoint's answer, `call(token)` -> the status of
    the API, `introspect(token)` -> the endpoint's answer, and `revoke(token)` -> the status.
    """
    token = None
    with check(f"{label}: a token is granted"):
        answer = library.token()
        token = answer["access_token"]
        equal(answer["token_type"].lower(), "bearer")
        equal(answer["expires_in"], 60)
        # requests-oauthlib turns it into a list.
        equal(as_text(answer["scope"]), "posts:read posts:write")
    with check(f"{label}: the API accepts it"):
        equal(library.call(token), 200)
    with check(f"{label}: introspection returns active"):
        answer = library.introspect(token)
        equal(answer["active"], True)
        equal(answer["client_id"], library.id)
        equal(answer["iss"], ISSUER)
        equal(answer["scope"], "posts:read posts:write")
    with check(f"{label}: it is revoked"):
        equal(library.revoke(token), 200)
    with check(f"{label}: it is then inactive, and the API answers 401"):
        equal(library.introspect(token)["active"], False)
        equal(library.call(token), 401)


def refusals(library, impostor):
    """Checks refusals: the library's own type of error with the error code of the RFC. `impostor` is the same library with
    a wrong secret."""

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
    """Tokens and keys over plain HTTP, for the scripts of verifiers."""

    def __init__(self):
        self.metadata = requests.get(METADATA_URL).json()
        self.id, self._secret = register()

    def token(self, **parameters):
        form = {"grant_type": "client_credentials", **parameters}
        return requests.post(self.metadata["token_endpoint"], data=form, auth=(self.id, self._secret)).json()["access_token"]

    def token_of_another_key(self, kid, kid_of):
        """A token after a rotation. A key that must sign at once does so once all nodes know it, within a few seconds."""
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
    """The same token with one more scope, so that its signature does not match."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["scope"] += " admin"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return ".".join([header, forged, signature])
