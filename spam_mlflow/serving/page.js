"use strict";
// Texts are only ever set as text, never as HTML.

const SHOWN = 300; // characters of a text in the list
const COLORED = 25000; // characters of a message that are shown with their colors
const FAINT = 0.05; // share of the largest contribution below which a word has no color
const LIMIT = 10; // inferences in the list at a time

const part = (id) => document.getElementById(id);
let cursor = null;
let turns = 0; // of the list
let checks = 0;

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

// The form of a request that versions of all ages read.
const one = (text) => ({ dataframe_split: { columns: ["text"], data: [[text]] } });

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
  const turn = ++checks;
  const isOver = () => turn !== checks; // another message is checked meanwhile
  say("…");
  try {
    const model = await showModel();
    if (isOver()) return;
    const answer = await request("invocations", one(text));
    if (isOver()) return;
    const row = answer.predictions[0];
    part("result").hidden = false;
    part("verdict").replaceChildren("This is ", element("span", row.label, `label-${row.label}`));
    const doubt = row.low_confidence ? `Low confidence: ${row.low_confidence}.` : "";
    part("doubt").textContent = doubt && `${doubt} Do not act on this label.`;
    part("doubt").hidden = !doubt;
    showBar(row.spam_probability, model.threshold);
    const id = answer.inference_ids ? answer.inference_ids[0] : null;
    part("judge").replaceChildren(...(id ? buttons(id) : []));
    // What fails here leaves the verdict as it is.
    const parts = [showWhy(text, isOver), showNear(id, isOver), model.store ? showList(false) : null];
    const failed = (await Promise.allSettled(parts))
      .filter((one) => one.status === "rejected").map((one) => one.reason.message);
    if (isOver()) return;
    say([`This is ${row.label}.`, ...(doubt ? [doubt] : []), ...new Set(failed)].join(" "));
  } catch (error) {
    if (isOver()) return;
    part("result").hidden = true;
    say(error.message);
  }
}

function showBar(probability, threshold) {
  part("fill").style.width = `${100 * probability}%`;
  part("mark").style.left = `${100 * threshold}%`;
  part("bar").setAttribute("aria-valuenow", probability.toFixed(4));
  part("numbers").textContent = `Spam probability ${percent(probability)}; spam from ${percent(threshold)} on (the line)`;
}

async function showWhy(text, isOver) {
  part("why").hidden = true;
  const why = await request("explanations", one(text));
  if (isOver()) return;
  part("reason").textContent = why.reason ? `Words have no color: ${why.reason}.` : "";
  part("legend").hidden = !why.words;
  showTable("others", why.others);
  showTable("features", why.features);
  part("words").replaceChildren(...colored(text, why.words || []));
  part("why").hidden = false;
}

function showTable(id, rows) {
  part(id).hidden = !rows;
  part(id).tBodies[0].replaceChildren(...(rows || []).map(({ feature, contribution }) => {
    const row = document.createElement("tr");
    row.append(element("td", feature), element("td", contribution.toFixed(3)));
    return row;
  }));
}

// The message with its words colored; the server counts characters, and strings have halves of some.
function colored(text, words) {
  const characters = [...text];
  const most = Math.max(1e-9, ...words.map((word) => Math.abs(word.contribution)));
  const parts = [];
  let at = 0;
  for (const { start, end, contribution } of words) {
    if (start >= COLORED) break;
    parts.push(characters.slice(at, start).join(""));
    at = Math.min(end, COLORED);
    parts.push(word(characters.slice(start, at).join(""), contribution, contribution / most));
  }
  parts.push(characters.slice(at, COLORED).join(""));
  const left = characters.length - COLORED;
  return left > 0 ? [...parts, `… (${left} characters more)`] : parts;
}

function word(text, contribution, weight) {
  if (Math.abs(weight) < FAINT) return text;
  const made = element("span", text, `word ${weight > 0 ? "spam" : "ham"}`);
  made.style.setProperty("--weight", (0.15 + 0.45 * Math.abs(weight)).toFixed(2));
  made.title = contribution.toFixed(3);
  return made;
}

async function showNear(id, isOver) {
  part("near").hidden = true;
  if (!id) return;
  const near = await request(`inferences/${id}/similar`);
  if (isOver()) return;
  const count = `${near.found} of the ${near.searched} newest`;
  part("near-about").textContent = near.reason ? `Not known: ${near.reason}.` : `${count} are similar.`;
  part("similar").replaceChildren(...near.inferences.map(listed));
  part("near").hidden = false;
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
    say(`Noted: it is ${label}.`);
    await refresh(id);
  } catch (error) {
    say(error.message);
  }
}

// Only what is said of it is written anew, so that the button that was pressed keeps the focus.
async function refresh(id) {
  const items = document.querySelectorAll(`[data-inference="${id}"]`);
  if (!items.length) return;
  const row = await request(`inferences/${id}`);
  for (const item of items) {
    const { similarity } = item.dataset;
    item.querySelector(".about").replaceChildren(...about({ ...row, similarity }));
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
  made.dataset.inference = row.id;
  if (row.similarity !== undefined) made.dataset.similarity = row.similarity;
  const text = row.text === null ? `(text not stored: ${row.text_form})` : row.text;
  const cut = [...text.slice(0, 2 * SHOWN)].slice(0, SHOWN).join("");
  const shown = element("bdi", cut.length < text.length ? `${cut}… (${text.length} characters)` : text, "text");
  shown.dir = "auto";
  const head = element("span", "", "about");
  head.append(...about(row));
  made.append(head, shown, ...buttons(row.id));
  return made;
}

function about(row) {
  const similarity = row.similarity === undefined ? "" : `, ${percent(row.similarity)} alike`;
  const said = row.feedback.map(({ reporter, label }) => element("span", `${reporter}: ${label}`,
    label === row.label ? "flag" : "flag other"));
  return [element("span", row.label, `label-${row.label}`),
    ` ${percent(row.spam_probability)}, version ${row.model_version}, ${row.at}${similarity} `, ...said];
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
