"use strict";

const MOST_BARS = 10;
const MOST_TEXT = 5000;
const place = (id) => document.getElementById(id);
const fields = []; // {name, kind, value(): Promise<string | {b64}> | null}
let model = null;
let asked = 0;

function element(tag, settings = {}, ...children) {
  const made = Object.assign(document.createElement(tag), settings);
  made.append(...children);
  return made;
}

function say(text, wrong = false) {
  const message = place("message");
  message.textContent = text;
  message.className = wrong ? "wrong" : "hint";
  message.setAttribute("role", wrong ? "alert" : "status");
}

function clear() {
  place("label").textContent = "";
  place("scores").replaceChildren();
  place("marked").replaceChildren();
  place("rest").hidden = true;
}

function bytesAsBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("the file cannot be read"));
    reader.readAsDataURL(file);
  });
}

function pictureField(name, alone) {
  let file = null;
  const hint = element("span", { textContent: `Drop ${name === "image" ? "a picture" : name} here, paste it, or choose a file` });
  const input = element("input", { type: "file", accept: "image/*", ariaLabel: `${name}: choose a picture` });
  const drop = element("div", { className: "drop field" }, hint, input);
  const take = (chosen) => {
    if (!chosen) return;
    file = chosen;
    const picture = element("img", { alt: chosen.name });
    picture.src = URL.createObjectURL(chosen);
    picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
    hint.textContent = "Drop, paste or choose another";
    drop.replaceChildren(picture, hint, input);
    if (alone) ask();
  };
  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
  addEventListener("paste", (event) => take([...event.clipboardData.files].find((f) => f.type.startsWith("image/"))));
  fields.push({ name, value: () => (file ? bytesAsBase64(file).then((b64) => ({ b64 })) : null), missing: "Choose a picture first." });
  return drop;
}

function textField(name) {
  const area = element("textarea", { id: `text-${name}`, required: true });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
  });
  fields.push({ name, value: () => (area.value.trim() ? Promise.resolve(area.value) : null), missing: "Type a text first." });
  return element("div", { className: "field" }, element("label", { className: "caption", htmlFor: area.id, textContent: name }), area);
}

// NaN and infinities come as words, as TensorFlow Serving writes them, which are no JSON: they become texts.
function parsed(body) {
  return JSON.parse(body.replace(/"(?:[^"\\]|\\.)*"|-?Infinity|NaN/g, (part) => (part[0] === '"' ? part : `"${part}"`)));
}

function bar(label, score) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  drawing.setAttribute("aria-hidden", "true");
  rect.setAttribute("width", `${100 * Math.min(1, Math.max(0, score))}%`);
  rect.setAttribute("height", "100%");
  drawing.append(rect);
  return element(
    "li", {},
    element("span", { textContent: label }),
    element("span", { className: "number", textContent: `${(100 * score).toFixed(1)} %` }),
    element("div", { className: "track" }, drawing),
  );
}

function marked(text, spans) {
  const characters = [...text]; // offsets count these; JavaScript's strings count halves of some
  const pieces = [];
  let from = 0;
  for (const { start, end, label } of spans) {
    const mark = element("mark", { textContent: characters.slice(start, end).join("") });
    if (label) mark.append(element("small", { textContent: label }));
    pieces.push(characters.slice(from, start).join(""), mark);
    from = end;
  }
  return [...pieces, characters.slice(from).join("")];
}

function showClasses(answer) {
  const pairs = answer.classes.map((name, k) => [name, answer.scores[k]]).sort((a, b) => b[1] - a[1]);
  const chosen = answer.chosen && answer.classes.filter((_, k) => answer.chosen[k]).join(", ");
  place("label").textContent = answer.label ?? (answer.chosen ? chosen || "none of them" : pairs[0][0]);
  place("scores").replaceChildren(...pairs.slice(0, MOST_BARS).map(([name, score]) => bar(name, score)));
  if (pairs.length > MOST_BARS) place("scores").append(element("li", {}, `and ${pairs.length - MOST_BARS} more classes`));
}

function showSpans(answer, text) {
  const spans = answer.label
    .map((label, k) => ({ label, start: answer.start[k], end: answer.end[k], score: answer.score[k] }))
    .filter(({ label }) => label);
  place("label").textContent = spans.length ? "" : "nothing found";
  place("marked").replaceChildren(...marked(text, spans));
  const words = ({ label, start, end }) => `${label} ${[...text].slice(start, end).join("")}`;
  place("scores").replaceChildren(...spans.map((span) => bar(words(span), span.score)));
}

function showAnswer(answer, text) {
  place("label").textContent = answer.answer || "no answer";
  place("marked").replaceChildren(...marked(text, answer.answer ? [answer] : []));
  place("scores").replaceChildren(bar("score", answer.score));
}

function show(answer, texts, seconds) {
  const last = texts[texts.length - 1];
  const numbers = Array.isArray(answer) ? answer.flat() : [answer];
  if (Array.isArray(answer?.scores) && Array.isArray(answer.classes)) {
    showClasses(answer);
  } else if (Array.isArray(answer?.start) && Array.isArray(answer.label)) {
    showSpans(answer, last);
  } else if (typeof answer?.answer === "string" && typeof answer.score === "number") {
    showAnswer(answer, last);
  } else if (numbers.every((value) => typeof value === "number")) {
    place("label").textContent = numbers.map((value) => Number(value.toPrecision(6))).join(", ");
  } else {
    const text = JSON.stringify(answer, null, 1);
    place("rest").textContent = text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)} …` : text;
    place("rest").hidden = false;
  }
  say(`answered in ${Math.round(seconds * 1000)} ms`);
}

async function ask() {
  const mine = ++asked;
  const button = place("ask");
  clear();
  try {
    const values = {};
    for (const field of fields) {
      const value = field.value();
      if (value === null) { say(field.missing, true); return; }
      values[field.name] = await value;
    }
    button.disabled = true;
    place("result").setAttribute("aria-busy", "true");
    say("…");
    const started = performance.now();
    const response = await fetch(`v1/models/${encodeURIComponent(model.name)}:predict`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ instances: [values] }),
    });
    const body = parsed(await response.text());
    if (mine !== asked) return; // another picture was chosen meanwhile
    if (!response.ok) throw new Error(body.error);
    show(body.predictions[0], Object.values(values), (performance.now() - started) / 1000);
  } catch (error) {
    if (mine === asked) say(error.message || "the server does not answer", true);
  } finally {
    if (mine === asked) {
      button.disabled = false;
      place("result").setAttribute("aria-busy", "false");
    }
  }
}

async function start() {
  try {
    model = await (await fetch("model")).json();
  } catch {
    say("the server does not answer", true);
    return;
  }
  document.title = `${model.name} · tfpt serve`;
  place("name").textContent = model.name;
  place("version").textContent = `version ${model.version}`;
  const onePicture = model.inputs.length === 1 && model.inputs[0].kind === "image";
  place("inputs").replaceChildren(
    ...model.inputs.map(({ name, kind }) => (kind === "image" ? pictureField(name, onePicture) : textField(name))),
  );
  place("ask").hidden = onePicture;
  say("The answer appears here.");
  place("form").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
}

start();
