// The start page: the server's state, the caller's runs, and the one that the address names (#run-...), live.

import { ApiError, Unreachable, ask, events, key } from "./api.js";
import { count, facts, line, make, share } from "./dom.js";
import { RunView } from "./run.js";

const REFRESH_MS = 3_000;
const PAGE_RUNS = 20;
const RUNS = "/v1/rlm/runs";
const at = (id) => document.getElementById(id);
const rows = new Map(); // of the table, by the id of the run
let shownRuns = PAGE_RUNS;
let following = null; // an AbortController, of the run that is shown
let refreshing = 0;

function say(text) {
  if (at("status").textContent !== text) at("status").textContent = text;
}

/** Ask for the state and the runs, now and every few seconds while somebody looks. */
async function refresh() {
  clearTimeout(refreshing);
  if (!document.hidden) {
    try {
      const [server, runs] = await Promise.all([ask("/v1/rlm/state"), ask(`${RUNS}?limit=${shownRuns}`)]);
      showServer(server);
      showRuns(runs);
      admitted();
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return wantKey();
      say(error.message);
    }
  }
  clearTimeout(refreshing);
  refreshing = setTimeout(refresh, REFRESH_MS);
}

function admitted() {
  const isNew = at("main").hidden;
  at("enter").hidden = true;
  at("main").hidden = false;
  at("forget").hidden = !key.get();
  if (isNew) showNamed();
}

function wantKey() {
  leave();
  at("refused").textContent = key.get() ? "This server does not know that key." : "";
  key.forget();
  at("main").hidden = true;
  at("forget").hidden = true;
  at("enter").hidden = false;
  at("key").focus();
  say("a key is wanted");
}

function showServer(server) {
  const { runs, direct, usage } = server;
  const places = ({ running, waiting, most }) => `${running} of ${most} at work, ${waiting} waiting`;
  const { prompt_tokens: read, prompt_tokens_details: { cached_tokens: cached } } = usage;
  const window = server.window_tokens ? `, a window of ${count(server.window_tokens, "token")}` : "";
  say(`${server.status} · rlm-local ${server.version}`);
  facts(at("server"), [
    ["Models", server.models.join(", ") + window],
    ["Runs", places(runs)],
    ["To the engine itself", places(direct)],
    ["From the cache", `${share(cached, read)} of ${count(read, "token")} that your runs have read`],
  ]);
}

function showRuns(list) {
  const body = at("runs").tBodies[0];
  const focused = document.activeElement;
  const wanted = list.data.map(rowOf);
  if (wanted.length !== body.rows.length || wanted.some((row, index) => row !== body.rows[index])) {
    body.replaceChildren(...wanted);
    if (body.contains(focused)) focused.focus();
  }
  at("runs").hidden = !list.data.length;
  at("none").hidden = list.data.length > 0;
  at("more").hidden = !list.has_more;
}

/** Return the run's row, made once, so that it keeps the focus. */
function rowOf(run) {
  let row = rows.get(run.id);
  if (!row) {
    const link = make("a", { href: `#${run.id}`, className: "said" }, line(run.question, 140));
    row = make("tr", {}, make("td", {}, link), make("td"), make("td"), make("td"));
    rows.set(run.id, row);
  }
  row.className = `#${run.id}` === location.hash ? "shown" : "";
  const [, state, begun, took] = row.cells;
  state.className = run.status;
  state.textContent = run.status;
  begun.textContent = new Date(1000 * run.created_at).toLocaleString();
  took.textContent = run.started_at && run.ended_at ? `${run.ended_at - run.started_at} s` : "";
  return row;
}

function leave() {
  following?.abort();
  following = null;
  at("run").hidden = true;
  at("run").replaceChildren();
}

/** Show the run that the address names, and follow it to its end. */
async function showNamed() {
  leave();
  for (const [id, row] of rows) row.className = `#${id}` === location.hash ? "shown" : "";
  const id = location.hash.slice(1);
  if (!/^run-[0-9a-f]+$/.test(id) || at("main").hidden) return;
  const { signal } = (following = new AbortController());
  try {
    const run = await ask(`${RUNS}/${id}`);
    if (signal.aborted) return;
    const view = new RunView(run, () => ask(`${RUNS}/${id}/cancel`, "POST")); // its end comes as an event
    at("run").replaceChildren(...view.parts);
    at("run").hidden = false;
    view.title.focus();
    await follow(view, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof ApiError && error.status === 401) return wantKey();
    at("run").hidden = false;
    at("run").replaceChildren(make("h2", { id: "run-title" }, "Run"), make("p", { className: "bad" }, error.message));
  }
}

async function follow(view, signal) {
  const path = `${RUNS}/${view.run.id}/events`;
  let last = "";
  while (!signal.aborted) {
    try {
      for await (const { id, name, data } of events(path, last, signal)) {
        if (id) last = id;
        view.take(name, data);
        if (name === "ended") return;
      }
    } catch (error) {
      if (!(error instanceof Unreachable || error.status >= 500)) throw error;
    }
    await new Promise((done) => setTimeout(done, REFRESH_MS)); // the connection broke, or the server stops
  }
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(at("key").value.trim());
  at("key").value = "";
  refresh();
});
at("forget").addEventListener("click", () => {
  key.forget();
  location.hash = "";
  location.reload();
});
at("more").addEventListener("click", () => {
  shownRuns = Math.min(1000, shownRuns + PAGE_RUNS);
  refresh();
});
addEventListener("hashchange", showNamed);
document.addEventListener("visibilitychange", refresh);
refresh();
