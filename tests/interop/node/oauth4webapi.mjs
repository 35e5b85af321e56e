// oauth4webapi, used like in its documentation: each request and the processing of its answer, starting with discovery.
// It is also a library for resource servers: validateJwtAccessToken checks tokens against RFC 9068.

import assert from 'node:assert/strict';
import * as oauth from 'oauth4webapi';
import { algorithm, audience, check, issuer, life, refusalOf, refusals, register, replay, testUrl } from './checks.mjs';

const insecure = { [oauth.allowInsecureRequests]: true }; // the server under test serves plain HTTP

const issuerUrl = new URL(issuer);
const discovered = await oauth.discoveryRequest(issuerUrl, { algorithm: 'oauth2', ...insecure });
const as = await oauth.processDiscoveryResponse(issuerUrl, discovered);

function configure(id, authentication) {
  const client = { client_id: id };
  return {
    id,
    token: async (parameters) =>
      oauth.processClientCredentialsResponse(as, client,
        await oauth.clientCredentialsGrantRequest(as, client, authentication, parameters, insecure)),
    introspect: async (token) =>
      oauth.processIntrospectionResponse(as, client,
        await oauth.introspectionRequest(as, client, authentication, token, insecure)),
    revoke: async (token) =>
      oauth.processRevocationResponse(await oauth.revocationRequest(as, client, authentication, token, insecure)),
    call: async (token) => {
      try {
        const response = await oauth.protectedResourceRequest(token, 'GET', testUrl, undefined, undefined, insecure);
        assert(response.ok, 'refused without a challenge');
        return response.status;
      } catch (error) {
        assert(error instanceof oauth.WWWAuthenticateChallengeError, error);
        assert.equal(error.cause[0].parameters.error, 'invalid_token');
        return error.status;
      }
    },
    refusal: (error) => refusalOf(oauth, error),
  };
}

const { id, secret } = await register();
const basic = configure(id, oauth.ClientSecretBasic(secret));
await life('client_secret_basic', basic);
await life('client_secret_post', configure(id, oauth.ClientSecretPost(secret)));
await refusals(basic, configure(id, oauth.ClientSecretBasic('wrong')));

for (const alg of ['ES256', 'EdDSA', 'RS256']) {
  const { publicKey, privateKey } = await oauth.generateKeyPair(alg);
  const { id } = await register({ jwks: { keys: [await crypto.subtle.exportKey('jwk', publicKey)] } });
  await life(`private_key_jwt ${alg}`, configure(id, oauth.PrivateKeyJwt(privateKey)));
  const once = { [oauth.modifyAssertion]: (_header, payload) => { payload.jti = 'once'; } };
  await replay(`private_key_jwt ${alg}`, configure(id, oauth.PrivateKeyJwt(privateKey, once)));
}

if (algorithm !== 'HS256') {
  const validate = (token, audience) => {
    const request = new Request('https://api.example.com/', { headers: { authorization: `Bearer ${token}` } });
    return oauth.validateJwtAccessToken(as, request, audience, { signingAlgorithms: [algorithm], ...insecure });
  };
  await check('validateJwtAccessToken takes a token for the issuer', async () => {
    const claims = await validate((await basic.token({})).access_token, issuer);
    assert.equal(claims.client_id, id);
  });
  await check('validateJwtAccessToken takes a token for another audience, there only', async () => {
    const token = (await basic.token({ resource: audience })).access_token;
    assert.equal((await validate(token, audience)).sub, id);
    await assert.rejects(validate(token, issuer), { code: oauth.JWT_CLAIM_COMPARISON });
  });
}
