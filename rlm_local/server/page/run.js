// A run as a tree that grows with its events: nodes, their turns, what each turn's cell printed and asked.

import { answerView } from "./answer.js";
import { block, count, details, facts, line, make, said, share, worded } from "./dom.js";

const ROOT = "0";
const MOST_CALLS = 100; // that are shown of one turn; all are counted
const MOST_ITEMS = 20; // of a typed call
const FENCE = /^\s*(```|<repl>|<\/repl>)/;
const CELL_ENDS = {
  raised: "the cell raised an error",
  timeout: "the cell ran out of time",
  out_of_memory: "the cell ran out of memory",
  killed: "the cell's process died; its names were rebuilt",
};

export class RunView {
  /** run: as the server lists it. cancel: ends it. */
  constructor(run, cancel) {
    this.title = make("h2", { id: "run-title", tabIndex: -1 }, `Run ${run.id}`);
    this.facts = make("dl", { className: "facts" });
    this.answer = make("div");
    this.tree = make("div");
    this.progress = make("p", { className: "quiet" });
    this.progress.setAttribute("role", "status"); // read aloud as it changes
    this.cancel = button("Cancel the run", () => {
      this.cancel.disabled = true;
      cancel().catch((error) => this.tell(error.message));
    });
    this.reset();
    this.show(run);
  }

  /** What the page shows of the run, from top to bottom. */
  get parts() {
    const buttons = make("p", {}, this.cancel, " ", button("Open all", () => this.openAll(true)), " ");
    buttons.append(button("Close all", () => this.openAll(false)));
    return [this.title, this.facts, this.progress, this.answer, make("h3", {}, "Turns"), buttons, this.tree];
  }

  tell(sentence) {
    this.progress.textContent = sentence;
  }

  /** Forget what was drawn: the run begins anew. */
  reset() {
    this.turnOf = new Map(); // by "node/number"
    this.listOf = new Map([[ROOT, make("ol", { className: "turns" })]]); // of turns, by node
    this.usage = { prompt: 0, cached: 0, completion: 0 };
    this.started = null;
    this.coverage = [];
    this.tree.replaceChildren(this.listOf.get(ROOT));
  }

  /** Draw what the server says of the run as a whole. */
  show(run) {
    this.run = run;
    this.cancel.hidden = run.ended_at !== null;
    this.showFacts();
    this.answer.replaceChildren();
    if (run.answer) this.answer.append(make("h3", {}, "Answer"), ...answerView(run.answer, this.coverage));
    if (run.error) this.answer.append(make("h3", {}, "Error"), make("p", { className: "bad said" }, run.error.message));
  }

  showFacts() {
    const { run } = this;
    const { prompt, cached, completion } = this.usage;
    const entries = [
      ["Question", said(run.question)],
      ["State", make("span", { className: run.status }, run.status)],
    ];
    if (run.attempt > 1) entries.push(["Attempt", `${run.attempt}: the server was started again meanwhile`]);
    if (this.started) {
      const { documents, limits } = this.started;
      const chars = documents.reduce((sum, each) => sum + each.chars, 0);
      entries.push(["Documents", `${documents.length.toLocaleString("en")}, ${count(chars, "character")}`]);
      entries.push(["Limits", `${count(limits.max_turns, "turn")}, ${count(limits.max_subcalls, "sub-call")}`]);
    }
    if (prompt) {
      const read = `${count(prompt, "token")} read, ${share(cached, prompt)} of them from the cache`;
      entries.push(["Cost", `${read}; ${completion.toLocaleString("en")} written`]);
    }
    facts(this.facts, entries);
  }

  /** Take one event of the run's stream. */
  take(name, event) {
    const draw = DRAWN[name];
    if (draw) draw(this, event);
  }

  turn(event, number = event.turn ?? event.number) {
    const place = `${event.node}/${number}`;
    if (!this.turnOf.has(place)) {
      const turn = new TurnView(number);
      this.turnOf.set(place, turn);
      this.listOf.get(event.node)?.append(turn.item);
    }
    return this.turnOf.get(place);
  }

  spend(usage) {
    this.usage.prompt += usage.prompt_tokens;
    this.usage.cached += usage.cached_tokens;
    this.usage.completion += usage.completion_tokens;
    this.showFacts();
  }

  openAll(open) {
    for (const each of this.tree.querySelectorAll("details")) each.open = open;
  }
}

class TurnView {
  constructor(number) {
    this.number = number;
    this.state = "";
    this.outcome = "is being written …";
    this.calls = 0;
    this.asked = 0; // a typed call asks many at once
    this.head = make("summary");
    this.text = make("div");
    this.list = make("ol", { className: "calls" });
    this.more = make("p", { className: "quiet" });
    this.callsHead = make("summary");
    this.callsBox = make("details", { hidden: true }, this.callsHead, this.list, this.more);
    this.children = make("div", { className: "children", hidden: true });
    this.result = make("div");
    const parts = [this.head, this.text, this.callsBox, this.children, this.result];
    this.item = make("li", {}, make("details", { open: true }, ...parts));
    this.draw();
  }

  draw() {
    const parts = [`Turn ${this.number}`, this.state, this.asked ? count(this.asked, "sub-call") : "", this.outcome];
    this.head.replaceChildren(parts.filter(Boolean).join(" · "));
    this.callsHead.replaceChildren(count(this.asked, "sub-call"));
    this.callsBox.hidden = !this.asked;
    this.more.hidden = this.calls <= MOST_CALLS;
    this.more.textContent = `… and ${(this.calls - MOST_CALLS).toLocaleString("en")} more`;
  }

  /** Count a call of so many items, and show it where there is room. */
  call(items, summary, ...body) {
    this.asked += items;
    this.calls += 1;
    if (this.calls <= MOST_CALLS) this.list.append(make("li", {}, details(summary, false, ...body)));
    this.draw();
  }
}

// What is drawn of an event, by its name; what is not here tells a person nothing new.
const DRAWN = {
  run_started(view, event) {
    view.started = event;
    view.showFacts();
  },
  restarted(view) {
    view.reset();
    view.tell("The run begins anew.");
  },
  run_resumed(view) {
    view.listOf.get(ROOT).append(make("li", { className: "quiet" }, "The server was started again; the run goes on."));
  },
  replied: (view, event) => view.spend(event.reply.usage),
  items_replied: (view, event) => event.replies.forEach((each) => view.spend(each.reply.usage)),
  node_started(view, event) {
    const list = make("ol", { className: "turns" });
    const child = details(["Child ", said(event.node), ": ", said(line(event.question))], true, list);
    child.className = "child";
    view.listOf.set(event.node, list);
    const parent = view.turn({ node: event.parent, turn: event.turn });
    parent.children.hidden = false;
    parent.children.append(child);
  },
  node_ended(view, event) {
    const { answer } = event;
    const head = answer.confirmed ? "Its answer: " : "Its answer, unconfirmed: ";
    view.listOf.get(event.node)?.append(make("li", {}, head, said(line(worded(answer.value), 400))));
  },
  turn_started(view, event) {
    const turn = view.turn(event, event.number);
    turn.state = event.state;
    turn.draw();
    if (event.node === ROOT) view.tell(`Turn ${event.number} is being written.`);
  },
  turn_written(view, event) {
    const turn = view.turn(event, event.number);
    turn.text.replaceChildren(...written(event.text));
    turn.outcome = "works …";
    turn.draw();
  },
  sub_call_done(view, event) {
    const { prompt, answer, refused, node } = event.subcall;
    if (node) return; // a child, which stands there with its turns
    const came = refused ? `refused: ${refused}` : answer;
    const summary = [said(line(prompt)), " → ", said(line(came) || "(empty)")];
    view.turn(event).call(1, summary, block(prompt, "prompt"), block(came, "answer"));
  },
  page_done(view, event) {
    const { kind, items, values, failures } = event.page;
    const first = values.filter((value) => value !== null).slice(0, 3).map(worded).join("; ");
    const rows = items.slice(0, MOST_ITEMS).map((item, at) => `${line(item)} → ${worded(values[at]) ?? ""}`);
    if (items.length > rows.length) rows.push(`… ${count(items.length, "item")} in all`);
    for (const { item, why } of failures.slice(0, MOST_ITEMS)) rows.push(`item ${item} failed: ${why}`);
    const summary = [`${kind}: ${count(items.length, "item")} → `, said(line(first) || "(nothing)")];
    view.turn(event).call(items.length, summary, block(rows.join("\n"), "items"));
  },
  turn_taken(view, event) {
    const turn = view.turn(event, event.number);
    const { result, action, closed_text: closed } = event.turn;
    const shown = [];
    if (closed) shown.push(note("Its tokens were spent, so it was ended with: ", said(line(closed))));
    if (result) {
      turn.outcome = `${result.status === "ok" ? "ran" : CELL_ENDS[result.status]} in ${result.elapsed_s.toFixed(1)} s`;
      if (result.stdout) shown.push(block(result.stdout, "what the cell printed"));
      if (result.truncated_bytes) shown.push(note(`${count(result.truncated_bytes, "byte")} more were cut`));
      if (result.error) shown.push(block(result.error, "its error", "error"));
    } else {
      turn.outcome = action.type === "malformed" ? "not a turn" : "an answer";
      if (event.observation) shown.push(note(said(event.observation)));
    }
    turn.result.replaceChildren(...shown);
    turn.draw();
  },
  validated(view, event) {
    if (event.complaint) view.turn(event).result.append(note("The caller's check: ", said(event.complaint)));
  },
  run_ended(view, event) {
    view.coverage = event.answer.coverage;
  },
  ended(view, run) {
    view.show(run);
    view.tell(`The run has ended: ${run.status}.`);
  },
  error: (view, told) => view.tell(told.error.message),
};

/** Return a reply as prose and code, without the fences around its code. */
function written(text) {
  const shown = [];
  let lines = [];
  let isCode = false;
  const close = () => {
    const part = lines.join("\n");
    if (part.trim()) shown.push(isCode ? block(part, "code", "code") : make("p", { className: "said" }, part.trim()));
    lines = [];
  };
  for (const each of text.split("\n")) {
    if (FENCE.test(each)) {
      close();
      isCode = !isCode;
    } else lines.push(each);
  }
  close();
  return shown;
}

function note(...children) {
  return make("p", { className: "quiet" }, ...children);
}

function button(text, onclick) {
  return make("button", { type: "button", onclick }, text);
}
