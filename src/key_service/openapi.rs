//! How to ask, as OpenAPI 3.1: what `/openapi.json` answers. A test walks it and calls the service.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::body::LIST_TYPES;
use super::request::LARGEST_PAGE;
use super::token::Scope;

/// The document, made once.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(build)
}

fn build() -> Value {
    let id = json!({"name": "key_id", "in": "path", "required": true, "description": "The id of the key.",
        "schema": {"type": "string"}});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Keyward key service",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "API keys with Kinde's paths, fields, statuses and codes. Fields beyond Kinde's are named so.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/api/v1/api_keys": {"get": list(), "post": create()},
            "/api/v1/api_keys/import": {"post": import()},
            "/api/v1/api_keys/verify": {"post": verify()},
            "/api/v1/api_keys/revocations": {"get": revocations()},
            "/api/v1/api_keys/{key_id}": {
                "parameters": [id],
                "get": operation("getApiKey", "Show a key", &[Scope::Read], ok(200, "Key"), &[400, 404]),
                "put": rotate(),
                "delete": delete(),
            },
            "/oauth2/token": {"post": token()},
            "/openapi.json": {"get": document_operation("getOpenApi")},
            "/api/v1/openapi.json": {"get": document_operation("getOpenApiBelowApi")},
        },
        "components": {
            "schemas": schemas(),
            "responses": responses(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer",
                    "description": "A token of the configuration, or one that /oauth2/token has issued."},
                "basic": {"type": "http", "scheme": "basic", "description": "Id and secret of a client."},
            },
        },
    })
}

/// The answer of success: its status and the name of its schema.
fn ok(status: u16, schema: &str) -> (u16, Value) {
    let content = json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}});
    (status, json!({"description": "Done.", "content": content}))
}

fn operation(id: &str, summary: &str, any_of: &[Scope], (status, success): (u16, Value), errors: &[u16]) -> Value {
    let mut responses = Map::new();
    responses.insert(status.to_string(), success);
    // What every operation can answer with.
    for error in errors.iter().chain(&[401, 403, 429, 503]) {
        responses.insert(error.to_string(), json!({"$ref": format!("#/components/responses/{error}")}));
    }
    let scopes: Vec<&str> = any_of.iter().map(|scope| scope.as_str()).collect();
    json!({"operationId": id, "summary": summary, "security": [{"bearer": []}], "x-scope": scopes.join(" or "),
        "responses": responses})
}

fn with(mut operation: Value, more: &[(&str, Value)]) -> Value {
    for (name, value) in more {
        operation[*name] = value.clone();
    }
    operation
}

fn takes(schema: &str, required: bool) -> (&'static str, Value) {
    let content = json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}});
    ("requestBody", json!({"required": required, "content": content}))
}

fn query(name: &str, schema: Value, description: &str) -> Value {
    json!({"name": name, "in": "query", "schema": schema, "description": description})
}

fn list() -> Value {
    let text = || json!({"type": "string"});
    let parameters = json!([
        query(
            "page_size",
            json!({"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": 50}),
            "How many keys at most."
        ),
        query("starting_after", text(), "Only keys behind this id."),
        query("next_token", text(), "The same, as the answer before named it. Not Kinde's here."),
        query("key_type", json!({"type": "string", "enum": ["organization", "user"]}), "Only keys of this type."),
        query(
            "status",
            json!({"type": "string", "enum": ["active", "inactive", "revoked"]}),
            "Only keys of this status; `inactive` are those whose time is over."
        ),
        query("user_id", text(), "Only keys of this user."),
        query("org_code", text(), "Only keys of this organization."),
        query("name_prefix", text(), "Only keys whose name begins like this. Not Kinde's."),
    ]);
    let list = operation("getApiKeys", "List keys, in the order of their ids", &[Scope::Read], ok(200, "Keys"), &[400]);
    with(list, &[("parameters", parameters)])
}

fn create() -> Value {
    let errors = [400, 408, 413, 415];
    let create = operation("createApiKey", "Make a key", &[Scope::Create], ok(201, "CreatedKey"), &errors);
    with(create, &[takes("NewKey", true)])
}

fn import() -> Value {
    let errors = [400, 408, 413, 415];
    let import = operation(
        "importApiKeys",
        "Add keys by their hashes, all or none",
        &[Scope::Create],
        ok(200, "Import"),
        &errors,
    );
    let lists = LIST_TYPES.map(|name| (name.to_owned(), json!({"schema": {"type": "string"}})));
    let description = "Keys that were made elsewhere: JSON Lines, each an `ImportedKey`, or CSV with a head line, of up to \
        4 MiB. A key that is there already stays as it is. Every bad line is an error with its number. Not Kinde's.";
    let body = json!({"required": true, "content": lists.into_iter().collect::<Map<_, _>>()});
    with(import, &[("description", description.into()), ("requestBody", body)])
}

fn rotate() -> Value {
    let errors = [400, 404, 408, 413, 415];
    let rotate = operation("rotateApiKey", "Give a key another text", &[Scope::Update], ok(201, "RotatedKey"), &errors);
    with(rotate, &[takes("Rotation", false)])
}

fn delete() -> Value {
    let delete = operation("deleteApiKey", "Revoke a key", &[Scope::Delete], ok(200, "DeletedKey"), &[400, 404]);
    let reason = query("reason", json!({"type": "string"}), "Why; shown where keys are listed. Not Kinde's.");
    with(delete, &[("parameters", json!([reason]))])
}

fn verify() -> Value {
    let errors = [400, 408, 413, 415];
    let scopes = [Scope::Read, Scope::Verify];
    let verify = operation("verifyApiKey", "Tell what a key opens", &scopes, ok(200, "Verification"), &errors);
    with(verify, &[takes("PresentedKey", true)])
}

fn revocations() -> Value {
    let description = "Server-sent events: `ready` at the start, `change` whenever what was verified before may be \
        wrong, and comments every few seconds. Whoever loses the stream forgets what it has cached. Not Kinde's.";
    let stream =
        json!({"description": "The stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}}});
    let scopes = [Scope::Read, Scope::Verify];
    let follow = operation("followRevocations", "Follow changes", &scopes, (200, stream), &[400]);
    with(follow, &[("description", description.into())])
}

fn token() -> Value {
    let form = json!({
        "type": "object",
        "required": ["grant_type"],
        "properties": {
            "grant_type": {"type": "string", "const": "client_credentials"},
            "client_id": {"type": "string", "description": "The name of a token of the configuration."},
            "client_secret": {"type": "string", "description": "Its text."},
            "scope": {"type": "string", "description": "Some of its scopes; all of them where it is left out."},
            "audience": {"type": "string", "description": "Becomes the `aud` of the token."},
        },
    });
    let error = |description: &str| {
        json!({"description": description,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/TokenError"}}}})
    };
    let mut responses = Map::new();
    let (status, success) = ok(200, "Token");
    responses.insert(status.to_string(), success);
    responses.insert("400".to_owned(), error("Not a good request (RFC 6749 section 5.2)."));
    responses.insert("401".to_owned(), error("Not a client, or not its secret."));
    for status in [408, 413, 415, 429] {
        responses.insert(status.to_string(), json!({"$ref": format!("#/components/responses/{status}")}));
    }
    json!({
        "operationId": "getToken",
        "summary": "Issue a token by client credentials",
        "security": [{}, {"basic": []}],
        "requestBody": {"required": true, "content": {"application/x-www-form-urlencoded": {"schema": form}}},
        "responses": responses,
    })
}

fn document_operation(id: &str) -> Value {
    let success =
        json!({"description": "This document.", "content": {"application/json": {"schema": {"type": "object"}}}});
    json!({"operationId": id, "summary": "This document", "security": [], "responses": {"200": success}})
}

fn responses() -> Value {
    let error = |description: &str, schema: &str| {
        json!({"description": description,
            "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}}})
    };
    json!({
        "400": error("The request is not as documented; the message says where.", "Errors"),
        "401": error("No token, or none that is known.", "Errors"),
        "403": error("The token has not got the scope.", "Errors"),
        "404": error("There is no such key.", "NotFound"),
        "408": error("The body took too long.", "Errors"),
        "413": error("The body is too large.", "Errors"),
        "415": error("The body is of another type.", "Errors"),
        "429": error("Too many requests without a good token; `RateLimit-Reset` says for how many seconds.", "Errors"),
        "503": error("The key store cannot be asked now.", "Errors"),
    })
}

/// An object with these properties, all of them required but for those whose name ends in `?`.
fn object(properties: &[(&str, Value)]) -> Value {
    let name = |name: &str| name.trim_end_matches('?').to_owned();
    let required: Vec<&str> = properties.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    let properties: Map<String, Value> = properties.iter().map(|(key, schema)| (name(key), schema.clone())).collect();
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let maybe = || json!({"type": ["string", "null"]});
    let moment = || json!({"type": "string", "format": "date-time"});
    let maybe_moment = || json!({"type": ["string", "null"], "format": "date-time"});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let count = || json!({"type": "integer", "minimum": 0});
    let flag = || json!({"type": "boolean"});
    let code = |code: &str| json!({"type": "string", "const": code});
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let maybe_limit = || json!({"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Limit"}]});
    let pairs = || json!({"type": "object", "additionalProperties": {"type": "string"}});
    let status = || json!({"type": "string", "enum": ["active", "inactive", "revoked"]});
    let secret = object(&[("id", text()), ("key", json!({"type": "string", "description": "Shown this once."}))]);
    let key = object(&[
        ("id", text()),
        ("name", text()),
        ("type", json!({"type": "string", "enum": ["organization", "user"]})),
        ("status", status()),
        ("key_prefix", text()),
        ("key_suffix", text()),
        ("created_on", moment()),
        ("created_by", maybe()),
        ("last_verified_on", maybe_moment()),
        ("last_verified_ip", json!({"type": "null"})),
        ("verification_count", count()),
        ("api_ids", texts()),
        ("scopes", texts()),
        ("organization_id", maybe()),
        ("user_id", maybe()),
        ("expires_on", maybe_moment()),
        ("rotated_on", maybe_moment()),
        ("grace_until", maybe_moment()),
        ("revoked_on", maybe_moment()),
        ("revoked_reason", maybe()),
        ("allow_from", texts()),
        ("limit", maybe_limit()),
        ("metadata", pairs()),
    ]);
    json!({
        "Limit": object(&[("requests", count()), ("per_ms", count())]),
        "NewKey": object(&[
            ("name", text()),
            ("type?", json!({"type": ["string", "null"], "enum": ["user", "organization", null]})),
            ("api_id?", maybe()),
            ("scope_ids?", json!({"type": ["array", "null"], "items": {"type": "string"}})),
            ("user_id?", maybe()),
            ("org_code?", maybe()),
            ("expires_on?", maybe_moment()),
            ("allow_from?", json!({"type": ["array", "null"], "items": {"type": "string"}})),
            ("limit?", maybe_limit()),
            ("metadata?", json!({"type": ["object", "null"], "additionalProperties": {"type": "string"}})),
            ("created_by?", maybe()),
        ]),
        "ImportedKey": object(&[
            ("sha256", json!({"type": "string", "pattern": "^[0-9A-Fa-f]{64}$", "description": "Of the whole key."})),
            ("name", text()),
            ("id?", maybe()),
            ("org_code?", maybe()),
            ("user_id?", maybe()),
            ("scopes?", texts()),
            ("api_ids?", texts()),
            ("allow_from?", texts()),
            ("metadata?", pairs()),
            ("limit?", maybe_limit()),
            ("expires_on?", maybe_moment()),
            ("created_on?", maybe_moment()),
            ("created_by?", maybe()),
            ("key_prefix?", maybe()),
            ("key_suffix?", maybe()),
        ]),
        "Import": object(&[("code", code("OK")), ("message", text()), ("added", count()), ("known", count())]),
        "Rotation": object(&[("grace_period_seconds?", json!({"type": ["integer", "null"], "minimum": 0}))]),
        "PresentedKey": object(&[("api_key", text())]),
        "KeyRecord": key,
        "Key": object(&[("code", code("OK")), ("message", text()), ("api_key", reference("KeyRecord"))]),
        "Keys": object(&[
            ("code", code("OK")),
            ("message", text()),
            ("has_more", flag()),
            ("next_token", maybe()),
            ("api_keys", json!({"type": "array", "items": reference("KeyRecord")})),
        ]),
        "Secret": secret,
        "CreatedKey":
            object(&[("message", text()), ("code", code("API_KEY_CREATED")), ("api_key", reference("Secret"))]),
        "RotatedKey": object(&[
            ("code", code("API_KEY_ROTATED")),
            ("message", text()),
            ("api_key", reference("Secret")),
            ("grace_until", maybe_moment()),
        ]),
        "DeletedKey":
            object(&[("message", text()), ("code", code("OK")), ("revoked_on", moment()), ("already_revoked", flag())]),
        "Verification": object(&[
            ("code", json!({"type": "string", "enum": ["API_KEY_VERIFIED", "API_KEY_INVALID"]})),
            ("message", text()),
            ("is_valid", flag()),
            ("key_id?", text()),
            ("status?", status()),
            ("scopes?", texts()),
            ("org_code?", maybe()),
            ("user_id?", maybe()),
            ("last_verified_on?", maybe_moment()),
            ("verification_count?", count()),
            ("expires_on?", maybe_moment()),
            ("api_ids?", texts()),
            ("allow_from?", texts()),
            ("limit?", maybe_limit()),
        ]),
        "Error": object(&[("code", text()), ("message", text()), ("line?", count())]),
        "Errors": object(&[("errors", json!({"type": "array", "items": reference("Error")}))]),
        "NotFound": object(&[("errors", reference("Error"))]),
        "Token": object(&[
            ("access_token", text()),
            ("token_type", code("Bearer")),
            ("expires_in", count()),
            ("scope", text()),
        ]),
        "TokenError": object(&[("error", text()), ("error_description", text())]),
    })
}
