"""requests-oauthlib, used like in its documentation of the client credentials grant ("Backend Application Flow"). It
supports neither discovery nor introspection: those use plain requests, with the addresses of the server's metadata."""

import os

import requests
from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
from requests_oauthlib import OAuth2Session

from checks import METADATA_URL, TEST_URL, life, refusals, register

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # the server under test serves plain HTTP

metadata = requests.get(METADATA_URL).json()


class Library:
    error_kind = OAuth2Error

    def __init__(self, client_id, secret, in_body=False):
        self.id, self.secret, self.in_body = client_id, secret, in_body

    def session(self, scope=None):
        return OAuth2Session(client=BackendApplicationClient(client_id=self.id, scope=scope))

    def token(self, scope=None, **parameters):
        return self.session(scope and scope.split()).fetch_token(
            metadata["token_endpoint"], client_secret=self.secret, include_client_id=self.in_body, **parameters
        )

    def call(self, token):
        return OAuth2Session(self.id, token={"access_token": token, "token_type": "Bearer"}).get(TEST_URL).status_code

    def introspect(self, token):
        return requests.post(metadata["introspection_endpoint"], data={"token": token}, auth=(self.id, self.secret)).json()

    def revoke(self, token):
        client = BackendApplicationClient(client_id=self.id)
        url, headers, body = client.prepare_token_revocation_request(metadata["revocation_endpoint"], token)
        return requests.post(url, data=body, headers=headers, auth=(self.id, self.secret)).status_code


client_id, secret = register()
basic = Library(client_id, secret)
life("client_secret_basic", basic)
life("client_secret_post", Library(client_id, secret, in_body=True))
refusals(basic, Library(client_id, "wrong"))
