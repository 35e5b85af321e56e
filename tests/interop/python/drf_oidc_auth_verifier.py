"""drf-oidc-auth protects an API of Django REST framework with our tokens: discovery, and verification with the server's JWKS."""

import time
from unittest import mock

import django
from django.conf import settings

from checks import ALGORITHM, AUDIENCE, ISSUER, Issuer, check, equal, tampered

LIFETIME = 60  # seconds of a token
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
    OIDC_AUTH={
        "OIDC_ENDPOINT": ISSUER,
        "OIDC_CLAIMS_OPTIONS": {"aud": {"essential": True, "value": ISSUER}},
        "JWT_ALGORITHMS": (ALGORITHM,),
        # The library refuses a token that is older than this, and allows it so much time after `exp`.
        "OIDC_LEEWAY": LIFETIME,
        "JWT_AUTH_HEADER_PREFIX": "Bearer",
        "OIDC_RESOLVE_USER_FUNCTION": lambda request, claims: claims["sub"],
    },
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None},
)
django.setup()

from oidc_auth.authentication import JSONWebTokenAuthentication  # noqa: E402: it reads the settings when it is imported
from rest_framework.permissions import BasePermission  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.test import APIRequestFactory  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class HasToken(BasePermission):
    def has_permission(self, request, view):
        return request.auth is not None


class Claims(APIView):
    authentication_classes = [JSONWebTokenAuthentication]
    permission_classes = [HasToken]

    def get(self, request):
        return Response({"sub": request.user, "scope": request.auth["scope"]})


def call(token):
    request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {token}")
    return Claims.as_view()(request)


issuer = Issuer()
token = issuer.token()

if ALGORITHM == "HS256":
    with check("the metadata names no key set: a shared secret is never published"):
        equal(issuer.metadata.get("jwks_uri"), None)
else:
    with check("the API takes a token"):
        answer = call(token)
        equal(answer.status_code, 200)
        equal(answer.data, {"sub": issuer.id, "scope": "posts:read posts:write"})
    with check("a request without a token is refused"):
        equal(Claims.as_view()(APIRequestFactory().get("/")).status_code, 401)
    with check("a tampered token is refused"):
        equal(call(tampered(token)).status_code, 401)
    with check("a token for another audience is refused"):
        equal(call(issuer.token(resource=AUDIENCE)).status_code, 401)
    with check("a token is refused once it has expired"):
        with mock.patch("oidc_auth.authentication.time.time", return_value=time.time() + LIFETIME + 1):
            equal(call(token).status_code, 401)
