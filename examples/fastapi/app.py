"""A support assistant from before anybody thought of selling it: no keys, no limits, no checks.

It knows who is asking from two headers that "something in front" is supposed to set.
"""

import os
import uuid
from datetime import datetime, timedelta, timezone

from fastapi import FastAPI, Request
from pydantic import BaseModel

app = FastAPI()


class Message(BaseModel):
    message: str


class Workflow(BaseModel):
    workflow: str


class Input(BaseModel):
    input: str


def identity(request):
    return {
        "organization": request.headers.get("X-Org-Code"),
        "user_id": request.headers.get("X-User-Id"),
    }


def ask_model(request, prompt):
    """Stands in for the call to the model."""
    who = identity(request)
    owner = who["organization"] or who["user_id"] or "everyone"
    return f"This is what {owner} should know about: {prompt}"


@app.post("/ai/support")
def support(request: Request, body: Message):
    response = ask_model(request, body.message)
    return {"response": response, **identity(request), "data_sources": ["support_history", "profile"]}


@app.get("/ai/analytics")
def analytics(request: Request):
    today = datetime.now(timezone.utc).date()
    date_range = {"from": today - timedelta(days=30), "to": today}
    return {
        "insights": ask_model(request, "the last 30 days"),
        **identity(request),
        "data_summary": {"total_records": 120, "date_range": date_range},
    }


@app.post("/ai/workflow")
def workflow(request: Request, body: Workflow):
    workflow_id = f"wf_{uuid.uuid4().hex[:8]}"
    return {
        "result": {"id": workflow_id, "status": "completed", "summary": ask_model(request, body.workflow)},
        **identity(request),
        "workflow_id": workflow_id,
        "execution_time": datetime.now(timezone.utc),
    }


@app.post("/ai/chat")
def chat(request: Request, body: Message):
    return {"response": ask_model(request, body.message), **identity(request)}


@app.post("/ai/process")
def process(request: Request, body: Input):
    return {"result": ask_model(request, body.input), **identity(request)}


@app.get("/healthz")
def healthz():
    return {"status": "ok"}


# For debugging only: what the application really gets to see of a request.
if os.environ.get("ECHO_ENVIRON") == "1":

    # The body is awaited so that the answer comes after the whole request, trailers included, was read.
    @app.api_route("/echo", methods=["GET", "POST"])
    @app.api_route("/echo/{rest:path}", methods=["GET", "POST"])
    async def echo(request: Request):
        await request.body()
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.scope["headers"]]
        return {"headers": headers, "path": request.scope["path"], "root_path": request.scope["root_path"]}
