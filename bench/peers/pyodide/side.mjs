// The peer's side of `python -m bench jail`: Pyodide in Deno, spoken to by lines of JSON on standard input and output.
//
//   deno run --allow-read=FOLDER side.mjs FOLDER
//
// FOLDER is node_modules/pyodide. A cell calls llm_query as ours does, but has to await it: JavaScript has one thread.

const folder = Deno.args[0];
const { loadPyodide } = await import(`file://${folder}/pyodide.mjs`);

async function* lines(bytes) {
  let rest = "";
  for await (const text of bytes.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

const heard = lines(Deno.stdin.readable);
const encoder = new TextEncoder();

function say(message) {
  Deno.stdout.writeSync(encoder.encode(JSON.stringify(message) + "\n"));
}

async function hear() {
  const { value, done } = await heard.next();
  return done ? null : JSON.parse(value);
}

const python = await loadPyodide({ indexURL: `${folder}/` });
python.globals.set("llm_query", async (prompt) => {
  say({ op: "query", prompt });
  return (await hear()).reply;
});
say({ op: "ready" });

for (let frame; (frame = await hear()) !== null; ) {
  try {
    await python.runPythonAsync(frame.code);
    say({ op: "done" });
  } catch (error) {
    say({ op: "failed", error: String(error) });
  }
}
