// Requests to this server, with the key that was entered: it is in this tab's session storage and nowhere else.

const KEY = "rlm-local key";

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The server is not there, or the connection to it broke. */
export class Unreachable extends Error {}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (secret) => sessionStorage.setItem(KEY, secret),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Return what the server answers, as an object. Throws ApiError for its refusals, and Unreachable. */
export async function ask(path, method = "GET") {
  return (await answered(path, { method })).json();
}

/**
 * Yield the events of a run as {id, name, data}, those behind `lastId`. An EventSource could not send a key.
 * Ends where the server does so; throws what `ask` throws.
 */
export async function* events(path, lastId, signal) {
  const headers = lastId ? { "Last-Event-ID": lastId } : {};
  const response = await answered(path, { headers, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch(unreachable);
    if (done) return;
    rest += value;
    if (!value.includes("\n")) continue; // amid an event, which may be long
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = eventOf(block);
      if (event) yield event;
    }
  }
}

/** Return the event that these lines are; null for a comment, which only says that the server is there. */
export function eventOf(block) {
  const fields = { id: "", event: "", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
  }
  return fields.data ? { id: fields.id, name: fields.event, data: JSON.parse(fields.data) } : null;
}

async function answered(path, { headers = {}, ...rest }) {
  const secret = key.get();
  const sent = secret ? { ...headers, Authorization: `Bearer ${secret}` } : headers;
  const response = await fetch(path, { ...rest, headers: sent, cache: "no-store" }).catch(unreachable);
  if (response.ok) return response;
  const told = await response.json().catch(() => null);
  throw new ApiError(response.status, told?.error?.message ?? `the server answers ${response.status}`);
}

function unreachable(error) {
  throw error.name === "AbortError" ? error : new Unreachable("the server does not answer");
}
