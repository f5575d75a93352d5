// Streams through the proxy with the official SDKs and prints, as JSON, what their users would see.
//
// As sdks.py, with one argument more: the folder of the packages.

import { createRequire } from "node:module";
import { join } from "node:path";

const [base, packages] = process.argv.slice(2);
const require = createRequire(join(packages, "package.json"));
const { OpenAI } = require("openai");
const { Anthropic } = require("@anthropic-ai/sdk");

async function chat(base, prompt) {
  const client = new OpenAI({ baseURL: base + "/v1", apiKey: "none", maxRetries: 0 });
  let text = "", end = null, events = 0;
  const messages = [{ role: "user", content: prompt }];
  for await (const chunk of await client.chat.completions.create({ model: "m", stream: true, messages })) {
    events += 1;
    for (const choice of chunk.choices) {
      text += choice.delta.content ?? "";
      for (const call of choice.delta.tool_calls ?? []) text += call.function?.arguments ?? "";
      end = choice.finish_reason ?? end;
    }
  }
  return { text, end, events };
}

async function responses(base, prompt) {
  const client = new OpenAI({ baseURL: base + "/v1", apiKey: "none", maxRetries: 0 });
  let text = "", end = null, events = 0;
  for await (const event of await client.responses.create({ model: "m", stream: true, input: prompt })) {
    events += 1;
    if (event.type === "response.output_text.delta") text += event.delta;
    else if (event.type === "response.completed") end = event.response.status;
    else if (event.type === "response.incomplete") end = event.response.incomplete_details.reason;
  }
  return { text, end, events };
}

async function anthropic(base, prompt) {
  const client = new Anthropic({ baseURL: base, apiKey: "none", maxRetries: 0 });
  let text = "", end = null, events = 0;
  const messages = [{ role: "user", content: prompt }];
  try {
    const stream = await client.messages.create({ model: "m", max_tokens: 9, stream: true, messages });
    for await (const event of stream) {
      events += 1;
      if (event.type === "content_block_delta") text += event.delta.text ?? event.delta.partial_json ?? "";
      else if (event.type === "message_delta") end = event.delta.stop_reason;
    }
  } catch (error) {
    if (!(error instanceof Anthropic.APIError)) throw error;
    end = error.error.error.message;
  }
  return { text, end, events };
}

const apis = { chat, responses, anthropic };
let input = "";
for await (const part of process.stdin) input += part;
const seen = [];
for (const [path, api, prompt] of JSON.parse(input)) seen.push(await apis[api](base + path, prompt));
console.log(JSON.stringify(seen));
