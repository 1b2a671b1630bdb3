// The openai package of npm against a running `bipo serve`: node clients.mjs http://127.0.0.1:8080/v1 [KEY]
import assert from "node:assert/strict";
import OpenAI from "openai";

const [url, key = "none"] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const request = { model, messages: [{ role: "user", content: "How was your day?" }], max_tokens: 24, temperature: 0, steering: 2 };

const whole = await client.chat.completions.create(request);
const text = whole.choices[0].message.content;
assert.ok(text.length > 0 && whole.usage.total_tokens === whole.usage.prompt_tokens + whole.usage.completion_tokens);

let streamed = "";
for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(streamed, text);

const plain = await client.chat.completions.create({ ...request, steering: 0 });
assert.notEqual(plain.choices[0].message.content, text);

const completion = await client.completions.create({ model, prompt: "The sky is", max_tokens: 5, temperature: 0 });
assert.ok(completion.choices[0].text.length > 0);

await assert.rejects(client.chat.completions.create({ ...request, steering: "nobody" }), /no vector/);

// A stream that is left in the middle frees its place.
const stream = await client.chat.completions.create({ ...request, max_tokens: 400, stream: true });
for await (const _ of stream) break;
stream.controller.abort();
const started = Date.now();
for (;;) {
  const { streams } = await (await fetch(new URL("/health", url))).json();
  if (streams.running + streams.waiting === 0) break;
  assert.ok(Date.now() - started < 10_000, JSON.stringify(streams));
  await new Promise((resolve) => setTimeout(resolve, 50));
}
console.log("ok openai from npm");
