"""The client that openapi-python-client generates from the document. It supports only the statuses of Python's
`http.HTTPStatus`, so the server has `EXPIRED_TOKEN_STATUS=401`."""

import base64
import time

from checks import ISSUER, check, equal, register
from openapi_python_client_client import AuthenticatedClient, Client
from openapi_python_client_client.api.posts import create_post, list_posts
from openapi_python_client_client.api.token import issue_token, issue_token_v1, test_token
from openapi_python_client_client.models import (
    AnswerPostView,
    Claims,
    ErrorBody,
    GrantType,
    Issued,
    ListPostView,
    OAuthIssued,
    PostBody,
    TokenForm,
    TokenRequest,
)

client_id, secret = register()
anybody = Client(base_url=ISSUER)


def request_token(client_secret: str) -> ErrorBody | OAuthIssued | None:
    basic = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
    client = AuthenticatedClient(base_url=ISSUER, token=basic, prefix="Basic")
    return issue_token.sync(client=client, body=TokenForm(GrantType.CLIENT_CREDENTIALS))


def with_token() -> AuthenticatedClient:
    answer = request_token(secret)
    assert isinstance(answer, OAuthIssued), answer
    return AuthenticatedClient(base_url=ISSUER, token=answer.access_token)


with check("a token by JSON and the claims of one by the form"):
    issued = issue_token_v1.sync(client=anybody, body=TokenRequest(client_secret=secret))
    assert isinstance(issued, Issued), issued
    claims = test_token.sync(client=with_token())
    assert isinstance(claims, Claims), claims
    equal(claims.sub, client_id)
with check("a post is written and listed"):
    client = with_token()
    written = create_post.sync(client=client, body=PostBody(content="generated"))
    assert isinstance(written, AnswerPostView), written
    posts = list_posts.sync(client=client, limit=1)
    assert isinstance(posts, ListPostView), posts
    equal(posts.payload[0].id, written.payload.id)
with check("a wrong secret is a typed refusal"):
    body = request_token("wrong")
    assert isinstance(body, ErrorBody), body
    equal((body.code, body.error), (401, "invalid_client"))
with check("an expired token is a typed refusal"):
    client = with_token()
    time.sleep(3.1)
    expired = test_token.sync(client=client)
    assert isinstance(expired, ErrorBody), expired
    equal((expired.code, expired.reason), (401, "expired"))
