// An answer, and the passages that it rests on, each where it stands in its document.

import { count, make, said, scrolled, share, worded } from "./dom.js";

const MOST_DOCUMENTS = 50; // of those that nothing was read or cited of

/** Return what a person reads of an answer. coverage: of each document, where it is known. */
export function answerView(answer, coverage = []) {
  const judged = answer.confirmed
    ? make("p", { className: "good" }, "confirmed")
    : make("p", { className: "bad" }, "unconfirmed: ", said(answer.reason || `the run ended by ${answer.stop}`));
  const value = answer.value === null ? "No answer was found." : worded(answer.value);
  const unfound = (answer.unfound ?? []).map((words) => make("p", { className: "bad" }, "in no document: ", said(words)));
  const head = make("p", { className: "answer said" }, value);
  const cost = answer.cost ? [make("p", { className: "quiet" }, costOf(answer.cost))] : [];
  return [head, judged, ...unfound, ...cost, ...documents(answer.citations ?? [], coverage)];
}

function costOf({ amount, currency }) {
  return amount.toLocaleString("en", { style: "currency", currency, maximumSignificantDigits: 3 });
}

function documents(citations, coverage) {
  const cited = byDocument(citations);
  const known = new Map(coverage.map((each) => [each.document, each]));
  const names = [...new Set([...cited.keys(), ...coverage.filter(wasRead).map((each) => each.document)])];
  const shown = names.slice(0, cited.size + MOST_DOCUMENTS).map((name) =>
    make(
      "section",
      {},
      make("h4", { className: "said" }, name),
      ...(known.has(name) ? [readShare(known.get(name))] : []),
      ...(cited.get(name) ?? []).map(passage),
    ),
  );
  const others = coverage.length - shown.length;
  if (coverage.length && others > 0) {
    const told = `${count(others, "more document")}: not read by a model, or not shown`;
    shown.push(make("p", { className: "quiet" }, told));
  }
  return shown;
}

/** Return citations by their document's name, in the order in which they stand there. */
function byDocument(citations) {
  const found = new Map();
  for (const each of [...citations].sort((one, other) => one.start - other.start)) {
    found.set(each.filename, [...(found.get(each.filename) ?? []), each]);
  }
  return found;
}

function passage(citation) {
  const { before = "", quote, after = "" } = citation;
  const text = make("blockquote", {}, before, make("mark", {}, quote), after);
  if (citation.start > [...before].length) text.prepend("… "); // counted as the server does, by code points
  const where = `line ${citation.line}`;
  return make("figure", {}, make("figcaption", {}, where), scrolled(text, before + quote + after, where));
}

function readShare(covered) {
  const read = size(covered.printed) + size(covered.given);
  const meter = make("meter", { min: 0, max: covered.chars || 1, value: read });
  meter.setAttribute("aria-label", "read by models");
  const parts = [`${share(read, covered.chars)} of ${count(covered.chars, "character")} read by models`];
  if (covered.searched.length) parts.push(`${share(size(covered.searched), covered.chars)} only searched by code`);
  return make("p", { className: "quiet" }, meter, ` ${parts.join(", ")}`);
}

function wasRead(covered) {
  return size(covered.printed) + size(covered.given) > 0;
}

function size(stretches) {
  return stretches.reduce((sum, each) => sum + each.end - each.start, 0);
}
