// The server: JSON there and back, streams of events, and errors as one line a reader understands.

/** What the server refused, or that it is gone. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    dispatchEvent(new Event("server-gone"));
    throw new Refused(0, "The server does not answer. Is bipo serve still running?");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Refused(response.status, sentence(body.error?.message ?? `The server answered ${response.status}`));
}

/** The server's messages are lower case and without a full stop. */
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/[^.!?]$/, "$&.");

const post = (body, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  signal,
});

/** Reads JSON; null if there is none (204). */
export async function get(path) {
  const response = await request(path);
  return response.status === 204 ? null : response.json();
}

export const health = () => get("/health");
/** The vectors, and the names of the conditions. */
export const vectors = () => get("/v1/steering/vectors");
/** What a `steering` value means. */
export const meaning = async (steering) => (await request("/v1/steering/validate", post({ steering }))).json();
export const score = async (body, signal) => (await request("/v1/score", post(body, signal))).json();

/** Registers the bytes of a vector file under a name. */
export const addVector = async (name, bytes) => {
  const headers = { "Content-Type": "application/octet-stream" };
  const path = `/v1/steering/vectors?name=${encodeURIComponent(name)}`;
  return (await request(path, { method: "POST", headers, body: bytes })).json();
};

export const removeVector = (name) => request(`/v1/steering/vectors/${encodeURIComponent(name)}`, { method: "DELETE" });

/** What `bipo eval --json` wrote for a vector; null if the server has none. */
export const curve = (vector) => get(`/v1/steering/curve?vector=${encodeURIComponent(vector)}`);

/** Events of a sweep, as they come. */
export async function* sweep(body, signal) {
  const response = await request("/v1/sweep", post({ ...body, stream: true }, signal));
  for await (const event of events(response.body)) {
    if (event.error) throw new Refused(200, sentence(event.error.message));
    yield event;
  }
}

/** The JSON of each `data:` line of a stream, up to `[DONE]`: a stream that ends before it broke off. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  const brokeOff = () => new Refused(0, "The stream broke off. Run it again.");
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        if (error.name === "AbortError") throw error;
        dispatchEvent(new Event("server-gone"));
        throw brokeOff();
      });
      if (done) throw brokeOff();
      const lines = (rest + value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
