"""A Flask service that believes Keyward's signature, and nobody else. Run it with: gunicorn flask_app:app"""

import json
import os

from flask import Flask, jsonify, request

from keyward_identity import KeywardWSGI, Verifier

app = Flask(__name__)
verifier = Verifier(
    os.environ.get("KEYWARD_JWKS", "jwks.json"),
    audience="ai",
    secrets=json.loads(os.environ.get("KEYWARD_SECRETS", "{}")),
)
app.wsgi_app = KeywardWSGI(app.wsgi_app, verifier, public={"/healthz"})


@app.route("/ai/<path:rest>", methods=["GET", "POST", "PUT"])
def answer(rest):
    claims = request.environ["keyward"]
    return jsonify(
        organization=request.headers.get("X-Org-Code"),
        user_id=request.headers.get("X-User-Id"),
        route=claims["route"],
        method=request.method,
        body=request.get_data(as_text=True),
    )


@app.get("/healthz")
def healthz():
    return jsonify(status="ok", organization=request.headers.get("X-Org-Code"))
