// Shared by the scripts of this folder: the server's addresses, the registration of a domain, and the results that every
// OAuth 2.0 library must get. A script contains only the calls of its library.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

export const issuer = process.env.GATE_ISSUER;
export const algorithm = process.env.GATE_ALGORITHM;
/** An audience that tokens can have besides the issuer. */
export const audience = process.env.GATE_AUDIENCE;
export const testUrl = new URL('/v1/test', issuer);

/** Prints one line of the report. A failed check does not stop the script. */
export async function check(name, body) {
  try {
    await body();
    console.log(`ok ${name}`);
  } catch (error) {
    console.log(`FAIL ${name}: ${String(error?.stack ?? error).split('\n').slice(0, 12).join(' | ')}`);
  }
}

/** Registers a domain: with a client secret, or with `{ jwks }` for private_key_jwt. */
export async function register(credentials = {}) {
  const domain = {
    host: `${randomUUID()}.example.com`,
    type: 'free',
    scopes: ['posts:read', 'posts:write'],
    audiences: [issuer, audience],
    ...credentials,
  };
  const response = await fetch(new URL('/v1/domains', issuer), {
    method: 'POST',
    headers: { authorization: `Bearer ${process.env.GATE_USER_TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify(domain),
  });
  const body = await response.text();
  assert.equal(response.status, 201, `registration: ${body}`);
  const { payload } = JSON.parse(body);
  return { id: payload.id, secret: payload.clientSecret };
}

/**
 * Checks the life of a token with one library and one method of client authentication.
 *
 * `library` has `id` (the client's), `token(parameters)` -> the token endpoint's answer, `call(token)` -> the status
 * of the API, `introspect(token)` -> the endpoint's answer, and `revoke(token)`.
 */
export async function life(label, library) {
  let token;
  await check(`${label}: a token is granted`, async () => {
    const answer = await library.token({});
    token = answer.access_token;
    assert.equal(answer.token_type.toLowerCase(), 'bearer');
    assert.equal(answer.expires_in, 60);
    assert.equal(answer.scope, 'posts:read posts:write');
  });
  await check(`${label}: the API accepts it`, async () => {
    assert.equal(await library.call(token), 200);
  });
  await check(`${label}: introspection returns active`, async () => {
    const answer = await library.introspect(token);
    assert.equal(answer.active, true);
    assert.equal(answer.client_id, library.id);
    assert.equal(answer.iss, issuer);
    assert.equal(answer.scope, 'posts:read posts:write');
  });
  await check(`${label}: it is revoked`, async () => {
    await library.revoke(token);
  });
  await check(`${label}: it is then inactive, and the API answers 401`, async () => {
    assert.equal((await library.introspect(token)).active, false);
    assert.equal(await library.call(token), 401);
  });
}

/**
 * Checks refusals. `library.refusal(error)` is the error code of the RFC in the library's own type of error. `impostor`
 * is the same library with a wrong secret.
 */
export async function refusals(library, impostor) {
  await refused('a wrong client secret', 'invalid_client', impostor, {});
  await refused('an unknown scope', 'invalid_scope', library, { scope: 'no:such' });
  await refused('an unknown resource', 'invalid_target', library, { resource: 'https://no.such.example' });
  await check('a narrower scope is granted as asked', async () => {
    assert.equal((await library.token({ scope: 'posts:read' })).scope, 'posts:read');
  });
}

/** Checks one refusal. */
export function refused(name, word, library, parameters) {
  return check(`${name} is ${word}`, async () => {
    const error = await library.token(parameters).then(() => assert.fail('it was granted'), (error) => error);
    assert.equal(await library.refusal(error), word);
  });
}

/** Checks that an assertion cannot be sent twice. The library sends it again, because its `jti` is fixed. */
export async function replay(label, library) {
  await check(`${label}: an assertion is accepted once`, () => library.token({}));
  await refused(`${label}: an assertion sent again`, 'invalid_client', library, {});
}

/**
 * The error code of the RFC in an error of openid-client or oauth4webapi. If the answer has a challenge (required after
 * Basic by RFC 6749, 5.2), they throw the challenge and leave the body unread.
 */
export async function refusalOf({ ResponseBodyError, WWWAuthenticateChallengeError }, error) {
  if (error instanceof WWWAuthenticateChallengeError) return (await error.response.json()).error;
  assert(error instanceof ResponseBodyError, error);
  return error.error;
}
