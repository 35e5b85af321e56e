// jose verifies tokens offline with the server's JWKS.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { calculateJwkThumbprint, createRemoteJWKSet, decodeProtectedHeader, errors, jwtVerify } from 'jose';
import { algorithm, audience, check, issuer, register } from './checks.mjs';

const metadata = await (await fetch(new URL('/.well-known/oauth-authorization-server', issuer))).json();
const { id, secret } = await register();

async function token(parameters = {}) {
  const response = await fetch(metadata.token_endpoint, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', ...parameters }),
  });
  return (await response.json()).access_token;
}

const publishedKeys = async () => (await (await fetch(metadata.jwks_uri)).json()).keys;

async function verification() {
  const jwks = createRemoteJWKSet(new URL(metadata.jwks_uri));
  const demands = { issuer, audience: issuer, typ: 'at+jwt', algorithms: [algorithm] };
  const good = await token();

  await check('a token verifies', async () => {
    const { payload } = await jwtVerify(good, jwks, demands);
    assert.equal(payload.client_id, id);
    assert.equal(payload.scope, 'posts:read posts:write');
  });
  await check('a token for another audience verifies there', async () => {
    const { payload } = await jwtVerify(await token({ resource: audience }), jwks, { ...demands, audience });
    assert.deepEqual(payload.aud, [audience]);
  });
  await check('a tampered token is refused', async () => {
    const [header, payload, signature] = good.split('.');
    const claims = { ...JSON.parse(Buffer.from(payload, 'base64url')), scope: 'admin' };
    const tampered = [header, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.');
    await assert.rejects(jwtVerify(tampered, jwks, demands), errors.JWSSignatureVerificationFailed);
  });
  await check('a wrong audience is refused', async () => {
    const refusal = { code: 'ERR_JWT_CLAIM_VALIDATION_FAILED', claim: 'aud' };
    await assert.rejects(jwtVerify(good, jwks, { ...demands, audience }), refusal);
  });
  await check('a token is refused once its time is over', async () => {
    const inAMinute = { ...demands, currentDate: new Date(Date.now() + 60_000) };
    await assert.rejects(jwtVerify(good, jwks, inAMinute), errors.JWTExpired);
  });
  await check('the kid is the RFC 7638 thumbprint', async () => {
    const keys = await publishedKeys();
    assert(keys.length >= 1);
    for (const key of keys) assert.equal(key.kid, await calculateJwkThumbprint(key));
    assert(keys.some(({ kid }) => kid === decodeProtectedHeader(good).kid));
  });
}

async function rotation() {
  await check('after a rotation new tokens verify with a cached JWKS, and so do earlier ones', async () => {
    // By default jose refetches the JWKS for an unknown key at most every 30 s. Here the rotation is immediate, instead of
    // 15 minutes after the publication of the next key.
    const jwks = createRemoteJWKSet(new URL(metadata.jwks_uri), { cooldownDuration: 0 });
    const before = await token();
    await jwtVerify(before, jwks, { issuer, audience: issuer });
    const cached = jwks.jwks();

    await promisify(execFile)(process.env.GATEBIRD_BIN, ['key', 'rotate', '--now']);
    const after = await tokenOfAnotherKey(decodeProtectedHeader(before).kid);

    assert(!cached.keys.some(({ kid }) => kid === decodeProtectedHeader(after).kid));
    await jwtVerify(after, jwks, { issuer, audience: issuer });
    await jwtVerify(before, jwks, { issuer, audience: issuer });
  });
}

/** A token after a rotation. A key that must sign at once does so once all nodes know it, within a few seconds. */
async function tokenOfAnotherKey(kid) {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline;) {
    const next = await token();
    if (decodeProtectedHeader(next).kid !== kid) return next;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail('the server still signs with the old key');
}

if (algorithm === 'HS256') {
  await check('the metadata names no key set: a shared secret is never published', () => {
    assert.equal(metadata.jwks_uri, undefined);
  });
} else {
  await verification();
  await rotation();
}
