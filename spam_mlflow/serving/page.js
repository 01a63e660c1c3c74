"use strict";
// Texts are only ever set as text, never as HTML.

const SHOWN = 300; // characters of a text in the list
const WORDS = 400; // words that are colored
const LIMIT = 10; // inferences in the list at a time

const part = (id) => document.getElementById(id);
let cursor = null;
let turns = 0;

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function request(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Message-Source": "page" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, options);
  const said = await answer.json().catch(() => ({ message: answer.statusText }));
  if (!answer.ok) throw new Error(said.message || answer.statusText);
  return said;
}

function say(text) {
  part("status").textContent = text;
}

const percent = (value) => `${(100 * value).toFixed(1)} %`;

async function showModel() {
  const model = await request("model");
  const alias = model.alias ? ` (${model.alias})` : "";
  const drift = model.drift ? `; drift: ${model.drift}` : "";
  part("model").textContent = `${model.name}, version ${model.version}${alias}, threshold ${model.threshold.toFixed(3)}${drift}`;
  return model;
}

async function check(event) {
  event.preventDefault();
  const text = part("text").value;
  say("…");
  try {
    const model = await showModel();
    const answer = await explained(text);
    const row = answer.predictions[0];
    part("result").hidden = false;
    part("verdict").replaceChildren("This is ", element("span", row.label, `label-${row.label}`));
    showBar(row.spam_probability, model.threshold);
    showWhy(text, row.explanation);
    const id = answer.inference_ids ? answer.inference_ids[0] : null;
    part("judge").replaceChildren(...(id ? buttons(id) : []));
    if (model.store) await showList(false);
    say(`This is ${row.label}.`);
  } catch (error) {
    part("result").hidden = true;
    say(error.message);
  }
}

async function explained(text) {
  try {
    return await request("invocations", { inputs: [text], params: { explain: true } });
  } catch (error) { // only linear models can explain their scores
    if (!/explain/.test(error.message)) throw error;
    return request("invocations", { inputs: [text] });
  }
}

function showBar(probability, threshold) {
  part("fill").style.width = `${100 * probability}%`;
  part("mark").style.left = `${100 * threshold}%`;
  part("bar").setAttribute("aria-valuenow", probability.toFixed(4));
  part("numbers").textContent = `Spam probability ${percent(probability)}; spam from ${percent(threshold)} on (the line)`;
}

function showWhy(text, explanation) {
  part("why").hidden = !explanation;
  if (!explanation) return;
  const rows = explanation.map(({ feature, contribution }) => {
    const row = document.createElement("tr");
    row.append(element("td", feature), element("td", contribution.toFixed(3)));
    return row;
  });
  part("features").replaceChildren(...rows);
  const words = text.slice(0, 20 * WORDS).split(/(\s+)/).slice(0, 2 * WORDS);
  const moved = contributions(words, explanation);
  const most = Math.max(...moved.map(Math.abs), 1e-9);
  part("words").replaceChildren(...words.map((word, at) => colored(word, moved[at] / most)),
    words.join("").length < text.length ? "…" : "");
}

// What each word shares of the features that it holds.
function contributions(words, explanation) {
  const plain = words.map((word) => word.toLowerCase().replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, ""));
  const moved = words.map(() => 0);
  for (const { feature, contribution } of explanation) {
    const [kind, ...rest] = feature.split(":");
    const gram = rest.join(":");
    if (!gram || kind === "style" || kind === "shape") continue;
    const whole = gram.trim().split(/\s+/);
    const holds = plain.map((word) => word !== "" && (kind === "word" ? whole.includes(word) : word.includes(gram.trim())));
    const count = holds.filter(Boolean).length;
    holds.forEach((held, at) => { if (held) moved[at] += contribution / count; });
  }
  return moved;
}

function colored(word, weight) {
  if (Math.abs(weight) < 0.05 || !word.trim()) return document.createTextNode(word);
  const made = element("span", word, `word ${weight > 0 ? "spam" : "ham"}`);
  made.style.setProperty("--weight", (0.15 + 0.45 * Math.abs(weight)).toFixed(2));
  return made;
}

function buttons(id) {
  return ["ham", "spam"].map((label) => {
    const made = element("button", `It is ${label}`);
    made.type = "button";
    made.addEventListener("click", () => judge(id, label));
    return made;
  });
}

async function judge(id, label) {
  try {
    await request(`inferences/${id}/feedback`, { label });
    await showList(false);
    say(`Noted: it is ${label}.`);
  } catch (error) {
    say(error.message);
  }
}

async function showList(more) {
  const asked = new URLSearchParams({ limit: LIMIT });
  for (const name of ["label", "version", "day"]) {
    if (part(name).value) asked.set(name, part(name).value);
  }
  if (more && cursor) asked.set("cursor", cursor);
  const turn = ++turns;
  const page = await request(`inferences?${asked}`);
  if (turn !== turns) return; // the list was asked for again meanwhile
  cursor = page.next;
  const rows = page.inferences.map(listed);
  if (more) part("list").append(...rows);
  else part("list").replaceChildren(...(rows.length ? rows : [element("li", "None.")]));
  part("older").hidden = !cursor;
}

function listed(row) {
  const made = document.createElement("li");
  const text = row.text === null ? `(text not stored: ${row.text_form})` : row.text;
  const cut = [...text.slice(0, 2 * SHOWN)].slice(0, SHOWN).join("");
  const shown = element("bdi", cut.length < text.length ? `${cut}… (${text.length} characters)` : text, "text");
  shown.dir = "auto";
  const about = element("span", "", "about");
  about.append(element("span", row.label, `label-${row.label}`),
    ` ${percent(row.spam_probability)}, version ${row.model_version}, ${row.at}`,
    row.feedback.map((said) => `; ${said.reporter}: ${said.label}`).join(""));
  made.append(about, shown, ...buttons(row.id));
  return made;
}

function guarded(action) {
  return async (event) => {
    if (event) event.preventDefault();
    try {
      await action();
    } catch (error) {
      say(error.message);
    }
  };
}

part("ask").addEventListener("submit", check);
part("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) part("ask").requestSubmit();
});
part("filters").addEventListener("submit", guarded(() => showList(false)));
part("older").addEventListener("click", guarded(() => showList(true)));
guarded(async () => {
  const model = await showModel();
  if (model.store) await showList(false);
})();
