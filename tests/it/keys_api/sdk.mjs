// Drives the key service through Kinde's official SDK: `sdk.mjs PACKAGES HOST:PORT CLIENT_ID CLIENT_SECRET`.

import { createRequire } from "node:module";
import { join } from "node:path";

const [packages, domain, clientId, clientSecret] = process.argv.slice(2);
const { ApiKeys, init } = createRequire(join(packages, "package.json"))("@kinde/management-api-js");
init({ kindeDomain: `https://${domain}`, clientId, clientSecret });

const verify = (api_key) => ApiKeys.verifyApiKey({ requestBody: { api_key } });
const status = (call) => call().then(() => null, (error) => error.status);

const requestBody = {
  name: "sdk",
  type: "organization",
  api_id: "an_api",
  scope_ids: ["read:users"],
  org_code: "org_1",
};
const seen = {};
const created = await ApiKeys.createApiKey({ requestBody });
const { id: keyId, key: first } = created.api_key;
seen.created = [created.code, keyId.startsWith("api_key_")];
const listed = await ApiKeys.getApiKeys({ pageSize: 10, orgCode: "org_1", status: "active", keyType: "organization" });
seen.listed = [...listed.api_keys.map((k) => [k.name, k.type, k.status]), listed.has_more];
const got = (await ApiKeys.getApiKey({ keyId })).api_key;
seen.got = [got.name, got.organization_id, got.scopes, got.api_ids];
const verified = await verify(first);
seen.verified = [verified.code, verified.is_valid, verified.status, verified.org_code, verified.scopes];
const rotated = await ApiKeys.rotateApiKey({ keyId });
const second = rotated.api_key.key;
seen.rotated = [rotated.code, rotated.api_key.id === keyId, second !== first];
seen.former = [(await verify(first)).is_valid];
seen.present = [(await verify(second)).is_valid];
seen.deleted = [(await ApiKeys.deleteApiKey({ keyId })).code];
const after = await verify(second);
seen.after = [after.is_valid, after.status];
seen.missing = await status(() => ApiKeys.getApiKey({ keyId: "api_key_00000000000000000000000000000000" }));
seen.bad = await status(() => ApiKeys.createApiKey({ requestBody: { ...requestBody, name: "" } }));
console.log(JSON.stringify(seen));
