"""A FastAPI service that believes Keyward's signature, and nobody else. Run it with: uvicorn fastapi_app:app"""

import json
import os

from fastapi import FastAPI, Request

from keyward_identity import KeywardASGI, Verifier

api = FastAPI()


@api.api_route("/ai/{rest:path}", methods=["GET", "POST", "PUT"])
async def answer(request: Request, rest: str):
    claims = request.scope["keyward"]
    return {
        "organization": request.headers.get("X-Org-Code"),
        "user_id": request.headers.get("X-User-Id"),
        "route": claims["route"],
        "method": request.method,
        "body": (await request.body()).decode(),
    }


@api.get("/healthz")
def healthz(request: Request):
    return {"status": "ok", "organization": request.headers.get("X-Org-Code")}


verifier = Verifier(
    os.environ.get("KEYWARD_JWKS", "jwks.json"),
    audience="ai",
    secrets=json.loads(os.environ.get("KEYWARD_SECRETS", "{}")),
)
app = KeywardASGI(api, verifier, public={"/healthz"})
