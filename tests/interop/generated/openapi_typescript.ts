// The types that openapi-typescript generates from the document, with openapi-fetch.

import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import createClient from 'openapi-fetch';
import { check, issuer, register } from './checks.mjs';
import type { paths } from './openapi-typescript.js';

const { id, secret } = await register();
const client = createClient<paths>({ baseUrl: issuer });

function requestToken(clientSecret: string) {
  return client.POST('/token', {
    body: { grant_type: 'client_credentials', client_id: id, client_secret: clientSecret },
    bodySerializer: (body) => new URLSearchParams(Object.entries(body).map(([name, value]) => [name, String(value)])),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  });
}

async function bearer(): Promise<{ authorization: string }> {
  const { data, error } = await requestToken(secret);
  assert(data, error?.message);
  return { authorization: `Bearer ${data.access_token}` };
}

await check('a token by JSON and the claims of one by the form', async () => {
  const issued = await client.POST('/v1/token', { body: { clientSecret: secret } });
  assert.equal(issued.data?.tokenType, 'Bearer');
  assert.equal((await client.GET('/v1/test', { headers: await bearer() })).data?.sub, id);
});
await check('a post is written and listed', async () => {
  const headers = await bearer();
  const { data } = await client.POST('/v1/posts', { body: { content: 'generated' }, headers });
  const list = await client.GET('/v1/posts/my', { params: { query: { limit: 1 } }, headers });
  assert.equal(list.data?.payload[0]?.id, data?.payload.id);
});
await check('a wrong secret is a typed refusal', async () => {
  const { error } = await requestToken('wrong');
  assert.deepEqual([error?.code, error?.error], [401, 'invalid_client']);
});
await check('an expired token is a typed refusal', async () => {
  const headers = await bearer();
  await setTimeout(3100);
  const { error } = await client.GET('/v1/test', { headers });
  assert.deepEqual([error?.code, error?.reason], [419, 'expired']);
});
