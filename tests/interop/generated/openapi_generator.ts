// The client that openapi-generator (typescript-fetch) generates from the document.

import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { check, issuer, register } from './checks.mjs';
import { Configuration, GrantType, PostsApi, ResponseError, TokenApi } from './typescript-fetch/index.js';
import { type ErrorBody, ErrorBodyFromJSON } from './typescript-fetch/index.js';

const { id, secret } = await register();

function tokens(password: string): TokenApi {
  return new TokenApi(new Configuration({ basePath: issuer, username: id, password }));
}

async function withToken(): Promise<Configuration> {
  const { accessToken } = await tokens(secret).issueToken({ grantType: GrantType.ClientCredentials });
  return new Configuration({ basePath: issuer, accessToken });
}

/** The typed body of a refusal. */
async function refusal(attempt: Promise<unknown>): Promise<ErrorBody> {
  const error: unknown = await attempt.then(() => assert.fail('it was granted'), (error: unknown) => error);
  assert(error instanceof ResponseError, String(error));
  return ErrorBodyFromJSON(await error.response.json());
}

await check('a token by JSON and the claims of one by the form', async () => {
  assert.equal((await tokens(secret).issueTokenV1({ tokenRequest: { clientSecret: secret } })).tokenType, 'Bearer');
  assert.equal((await new TokenApi(await withToken()).testToken()).sub, id);
});
await check('a token for one of several resources', async () => {
  const grantType = GrantType.ClientCredentials;
  const resource = [issuer, process.env.GATE_AUDIENCE!];
  const { accessToken } = await tokens(secret).issueToken({ grantType, resource, scope: 'posts:read' });
  const claims = await new TokenApi(new Configuration({ basePath: issuer, accessToken })).testToken();
  assert.deepEqual(claims.aud, resource);
});
await check('a post is written and listed', async () => {
  const posts = new PostsApi(await withToken());
  const { payload } = await posts.createPost({ postBody: { content: 'generated' } });
  assert((await posts.listPosts({})).payload.some((post) => post.id === payload.id));
});
await check('a wrong secret is a typed refusal', async () => {
  const body = await refusal(tokens('wrong').issueToken({ grantType: GrantType.ClientCredentials }));
  assert.deepEqual([body.code, body.error], [401, 'invalid_client']);
});
await check('an expired token is a typed refusal', async () => {
  const configuration = await withToken();
  await setTimeout(3100);
  const body = await refusal(new TokenApi(configuration).testToken());
  assert.deepEqual([body.code, body.reason], [419, 'expired']);
});
