"""Streams through the proxy with the official SDKs and prints, as JSON, what their users would see.

Arguments: the proxy's base URL, the API, and the prompt, by which the service is told what to answer.
"""

import json
import sys

base, api, prompt = sys.argv[1:4]


def openai_chat():
    import openai

    client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)
    text, reason = "", None
    for chunk in client.chat.completions.create(
        model="m", stream=True, messages=[{"role": "user", "content": prompt}]
    ):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return {"text": text, "end": reason}


def openai_responses():
    import openai

    client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)
    text, end = "", None
    for event in client.responses.create(model="m", stream=True, input=prompt):
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.completed":
            end = event.response.status
        elif event.type == "response.incomplete":
            end = event.response.incomplete_details.reason
    return {"text": text, "end": end}


def anthropic():
    import anthropic

    client = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)
    text, end = "", None
    try:
        with client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": prompt}]
        ) as stream:
            for piece in stream.text_stream:
                text += piece
            end = stream.get_final_message().stop_reason
    except anthropic.APIStatusError as error:
        end = error.body["error"]["message"]
    return {"text": text, "end": end}


print(json.dumps({"chat": openai_chat, "responses": openai_responses, "anthropic": anthropic}[api]()))
