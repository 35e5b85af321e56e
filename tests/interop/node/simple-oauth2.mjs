// simple-oauth2, used like in its documentation. It supports neither discovery nor introspection nor API calls: those use
// plain fetch, with the addresses of the server's metadata.

import assert from 'node:assert/strict';
import { ClientCredentials } from 'simple-oauth2';
import { issuer, life, refusals, register, testUrl } from './checks.mjs';

const metadata = await (await fetch(new URL('/.well-known/oauth-authorization-server', issuer))).json();

function configure({ id, secret }, authorizationMethod) {
  const client = new ClientCredentials({
    client: { id, secret },
    auth: { tokenHost: issuer, tokenPath: metadata.token_endpoint, revokePath: metadata.revocation_endpoint },
    options: { authorizationMethod },
  });
  return {
    id,
    token: async (parameters) => (await client.getToken(parameters)).token,
    introspect: async (token) => {
      const response = await fetch(metadata.introspection_endpoint, {
        method: 'POST',
        headers: { authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}` },
        body: new URLSearchParams({ token }),
      });
      assert.equal(response.status, 200);
      return response.json();
    },
    revoke: (token) => client.createToken({ access_token: token }).revoke('access_token'),
    call: async (token) => (await fetch(testUrl, { headers: { authorization: `Bearer ${token}` } })).status,
    refusal: (error) => {
      assert.equal(error.isBoom, true, error);
      return error.data.payload.error;
    },
  };
}

const domain = await register();
const basic = configure(domain, 'header');
await life('client_secret_basic', basic);
await life('client_secret_post', configure(domain, 'body'));
await refusals(basic, configure({ ...domain, secret: 'wrong' }, 'header'));
