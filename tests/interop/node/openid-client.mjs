// openid-client, used like in its documentation. Its knowledge of the server comes from discovery.

import assert from 'node:assert/strict';
import { exportJWK, generateKeyPair } from 'jose';
import * as client from 'openid-client';
import { check, issuer, life, refusalOf, refusals, refused, register, replay, testUrl } from './checks.mjs';

async function configure(id, authentication) {
  const config = await client.discovery(new URL(issuer), id, undefined, authentication, {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests], // the server under test serves plain HTTP
  });
  return {
    id,
    token: (parameters) => client.clientCredentialsGrant(config, parameters),
    introspect: (token) => client.tokenIntrospection(config, token),
    revoke: (token) => client.tokenRevocation(config, token),
    call: async (token) => {
      try {
        const response = await client.fetchProtectedResource(config, token, testUrl, 'GET');
        assert(response.ok, 'refused without a challenge');
        return response.status;
      } catch (error) {
        assert(error instanceof client.WWWAuthenticateChallengeError, error);
        assert.equal(error.cause[0].parameters.error, 'invalid_token');
        return error.status;
      }
    },
    refusal: (error) => refusalOf(client, error),
  };
}

const { id, secret } = await register();
const basic = await configure(id, client.ClientSecretBasic(secret));
const post = await configure(id, client.ClientSecretPost(secret));
await life('client_secret_basic', basic);
await life('client_secret_post', post);
const impostor = await configure(id, client.ClientSecretBasic('wrong'));
await refusals(basic, impostor);
const impostorInBody = await configure(id, client.ClientSecretPost('wrong'));
await refused('a wrong client secret in the body', 'invalid_client', impostorInBody, {});
await check('a wrong client secret in the header is challenged for Basic', async () => {
  const isBasic = ({ cause: [challenge] }) => challenge.scheme === 'basic';
  await assert.rejects(impostor.token({}), isBasic);
});

for (const alg of ['ES256', 'EdDSA', 'RS256']) {
  const { publicKey, privateKey } = await generateKeyPair(alg);
  const { id } = await register({ jwks: { keys: [await exportJWK(publicKey)] } });
  await life(`private_key_jwt ${alg}`, await configure(id, client.PrivateKeyJwt(privateKey)));
  const once = { [client.modifyAssertion]: (_header, payload) => { payload.jti = 'once'; } };
  await replay(`private_key_jwt ${alg}`, await configure(id, client.PrivateKeyJwt(privateKey, once)));
}
