"""Streams through the proxy with the official SDKs and prints, as JSON, what their users would see.

Argument: the proxy's base URL. Standard input: a list of [path, API, prompt], where the prompt tells the service what
to answer. All are asked by one process, because loading the SDKs takes longer than what they are asked.
"""

import json
import sys

import anthropic
import openai

base = sys.argv[1]


def chat(base, prompt):
    client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)
    text, end, events = "", None, 0
    for chunk in client.chat.completions.create(
        model="m", stream=True, messages=[{"role": "user", "content": prompt}]
    ):
        events += 1
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                text += call.function.arguments or ""
            end = choice.finish_reason or end
    return {"text": text, "end": end, "events": events}


def responses(base, prompt):
    client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)
    text, end, events = "", None, 0
    for event in client.responses.create(model="m", stream=True, input=prompt):
        events += 1
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.completed":
            end = event.response.status
        elif event.type == "response.incomplete":
            end = event.response.incomplete_details.reason
    return {"text": text, "end": end, "events": events}


def messages(base, prompt):
    client = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)
    text, end, events = "", None, 0
    try:
        stream = client.messages.create(
            model="m", max_tokens=9, stream=True, messages=[{"role": "user", "content": prompt}]
        )
        for event in stream:
            events += 1
            if event.type == "content_block_delta":
                text += getattr(event.delta, "text", None) or getattr(event.delta, "partial_json", "")
            elif event.type == "message_delta":
                end = event.delta.stop_reason
    except anthropic.APIStatusError as error:
        end = error.body["error"]["message"]
    return {"text": text, "end": end, "events": events}


apis = {"chat": chat, "responses": responses, "anthropic": messages}
print(json.dumps([apis[api](base + path, prompt) for path, api, prompt in json.load(sys.stdin)]))
