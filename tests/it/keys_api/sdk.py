"""Drives the key service through Kinde's official SDK: `sdk.py HOST:PORT CLIENT_ID CLIENT_SECRET`."""

import json
import sys

from kinde_sdk.management.exceptions import ApiException
from kinde_sdk.management.management_client import ManagementClient
from kinde_sdk.management.models.create_api_key_request import CreateApiKeyRequest
from kinde_sdk.management.models.verify_api_key_request import VerifyApiKeyRequest

api = ManagementClient(*sys.argv[1:4]).api_keys_api


def verify(key):
    return api.verify_api_key(VerifyApiKeyRequest(api_key=key))


def status(call):
    try:
        call()
    except ApiException as error:
        return error.status


asked = dict(name="sdk", type="organization", api_id="an_api", scope_ids=["read:users"], org_code="org_1")
seen = {}
created = api.create_api_key(CreateApiKeyRequest(**asked))
key_id, first = created.api_key.id, created.api_key.key
seen["created"] = [created.code, key_id.startswith("api_key_")]
listed = api.get_api_keys(page_size=10, org_code="org_1", status="active", key_type="organization")
seen["listed"] = [*[[k.name, k.type, k.status] for k in listed.api_keys], listed.has_more]
got = api.get_api_key(key_id).api_key
seen["got"] = [got.name, got.organization_id, got.scopes, got.api_ids]
verified = verify(first)
seen["verified"] = [verified.code, verified.is_valid, verified.status, verified.org_code, verified.scopes]
rotated = api.rotate_api_key(key_id)
second = rotated.api_key.key
seen["rotated"] = [rotated.code, rotated.api_key.id == key_id, second != first]
seen["former"] = [verify(first).is_valid]
seen["present"] = [verify(second).is_valid]
seen["deleted"] = [api.delete_api_key(key_id).code]
after = verify(second)
seen["after"] = [after.is_valid, after.status]
seen["missing"] = status(lambda: api.get_api_key("api_key_00000000000000000000000000000000"))
seen["bad"] = status(lambda: api.create_api_key(CreateApiKeyRequest(**{**asked, "name": ""})))
print(json.dumps(seen))
