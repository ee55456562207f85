// Elements from values. A text only ever becomes a text node: nothing of a document or a model is markup.

/** Return a new element; `fields` are properties of it, `children` elements or texts. */
export function make(tag, fields = {}, ...children) {
  const element = Object.assign(document.createElement(tag), fields);
  element.append(...children);
  return element;
}

/** Return a text as it is, line by line; a long one can be scrolled by the keyboard too. */
export function block(text, label, kind = "") {
  return scrolled(make("pre", { className: kind }, shortened(text)), text, label);
}

/** Let the keyboard reach an element that scrolls, which it does where its text is long. */
export function scrolled(element, text, label) {
  if (text.length > 1_200 || text.split("\n", 16).length > 15) {
    element.tabIndex = 0;
    element.setAttribute("role", "region");
    element.setAttribute("aria-label", label);
  }
  return element;
}

/** Return a text of a document or a model within a sentence of ours. */
export function said(text) {
  return make("span", { className: "said" }, text);
}

/** Return details that are closed, or open. */
export function details(summary, open, ...children) {
  return make("details", { open }, make("summary", {}, ...[summary].flat()), ...children);
}

/** Fill a <dl> with names and what belongs to them. */
export function facts(list, entries) {
  list.replaceChildren(...entries.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

const SHOWN_CHARS = 20_000;

export function shortened(text, most = SHOWN_CHARS) {
  return text.length > most ? `${text.slice(0, most)} … (${count(text.length, "character")} in all)` : text;
}

/** Return the beginning of a text on one line. */
export function line(text, most = 100) {
  const flat = text.slice(0, 4 * most).replace(/\s+/g, " ").trim();
  return flat.length > most || text.length > 4 * most ? `${flat.slice(0, most)} …` : flat;
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** Return a value as it is read: a text bare, all else as JSON. */
export function worded(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

export function share(part, whole) {
  return whole ? `${((100 * part) / whole).toFixed(part && part < whole ? 1 : 0)} %` : "–";
}
