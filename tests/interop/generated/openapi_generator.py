"""The client that openapi-generator (python) generates from the document."""

import time

import openapi_generator_client as generated

from checks import AUDIENCE, ISSUER, check, equal, raises, register

client_id, secret = register()


def tokens(password: str) -> generated.TokenApi:
    configuration = generated.Configuration(host=ISSUER, username=client_id, password=password)
    return generated.TokenApi(generated.ApiClient(configuration))


def with_token() -> generated.ApiClient:
    answer = tokens(secret).issue_token(generated.GrantType.CLIENT_CREDENTIALS)
    return generated.ApiClient(generated.Configuration(host=ISSUER, access_token=answer.access_token))


def refusal(error: Exception) -> generated.ErrorBody:
    """The typed body of a refusal."""
    assert isinstance(error, generated.ApiException) and isinstance(error.data, generated.ErrorBody), repr(error)
    return error.data


with check("a token by JSON and the claims of one by the form"):
    request = generated.TokenRequest(clientSecret=secret)
    equal(tokens(secret).issue_token_v1(request).token_type, "Bearer")
    equal(generated.TokenApi(with_token()).test_token().sub, client_id)
with check("a token for several resources"):
    answer = tokens(secret).issue_token(generated.GrantType.CLIENT_CREDENTIALS, resource=[ISSUER, AUDIENCE])
    configuration = generated.Configuration(host=ISSUER, access_token=answer.access_token)
    equal(generated.TokenApi(generated.ApiClient(configuration)).test_token().aud, [ISSUER, AUDIENCE])
with check("a post is written and listed"):
    posts = generated.PostsApi(with_token())
    written = posts.create_post(generated.PostBody(content="generated")).payload
    equal(posts.list_posts(limit=1).payload[0].id, written.id)
with check("a wrong secret is a typed refusal"):
    with raises(generated.ApiException) as caught:
        tokens("wrong").issue_token(generated.GrantType.CLIENT_CREDENTIALS)
    body = refusal(caught[-1])
    equal((body.code, body.error), (401, "invalid_client"))
with check("an expired token is a typed refusal"):
    client = with_token()
    time.sleep(3.1)
    with raises(generated.ApiException) as caught:
        generated.TokenApi(client).test_token()
    body = refusal(caught[-1])
    equal((body.code, body.reason), (419, "expired"))
