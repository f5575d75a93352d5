"""A support assistant from before anybody thought of selling it: no keys, no limits, no checks.

It knows who is asking from two headers that "something in front" is supposed to set.
"""

import os
import uuid
from datetime import datetime, timedelta, timezone

from flask import Flask, abort, jsonify, request

app = Flask(__name__)


def identity():
    return {
        "organization": request.headers.get("X-Org-Code"),
        "user_id": request.headers.get("X-User-Id"),
    }


def owner():
    who = identity()
    return who["organization"] or who["user_id"] or "everyone"


def field(name):
    body = request.get_json()
    if not isinstance(body, dict) or not isinstance(body.get(name), str):
        abort(400, description=f"{name} must be a string")
    return body[name]


def ask_model(prompt):
    """Stands in for the call to the model."""
    return f"This is what {owner()} should know about: {prompt}"


@app.errorhandler(400)
@app.errorhandler(404)
@app.errorhandler(405)
@app.errorhandler(415)
def failed(error):
    return jsonify(error=error.description), error.code


@app.post("/ai/support")
def support():
    response = ask_model(field("message"))
    return jsonify(response=response, data_sources=["support_history", "profile"], **identity())


@app.get("/ai/analytics")
def analytics():
    today = datetime.now(timezone.utc).date()
    date_range = {"from": str(today - timedelta(days=30)), "to": str(today)}
    return jsonify(
        insights=ask_model("the last 30 days"),
        data_summary={"total_records": 120, "date_range": date_range},
        **identity(),
    )


@app.post("/ai/workflow")
def workflow():
    workflow_id = f"wf_{uuid.uuid4().hex[:8]}"
    result = {"id": workflow_id, "status": "completed", "summary": ask_model(field("workflow"))}
    execution_time = datetime.now(timezone.utc).isoformat()
    return jsonify(result=result, workflow_id=workflow_id, execution_time=execution_time, **identity())


@app.post("/ai/chat")
def chat():
    return jsonify(response=ask_model(field("message")), **identity())


@app.post("/ai/process")
def process():
    return jsonify(result=ask_model(field("input")), **identity())


@app.get("/healthz")
def healthz():
    return jsonify(status="ok")


# For debugging only: what the application really gets to see of a request.
if os.environ.get("ECHO_ENVIRON") == "1":

    @app.route("/echo", methods=["GET", "POST"], defaults={"rest": ""})
    @app.route("/echo/<path:rest>", methods=["GET", "POST"])
    def echo(rest):
        shown = ("SCRIPT_NAME", "PATH_INFO", "REMOTE_USER")
        return jsonify({k: v for k, v in request.environ.items() if k.startswith("HTTP_") or k in shown})
