"use strict";
/* The threshold slider and the message browser. Texts are only ever set as textContent. */
(() => {
  const holder = document.getElementById("explorer-data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const $ = (id) => document.getElementById(id);
  const spam = data.spam, total = spam.length;
  const PAGE = 25;
  let model = data.models[0], threshold = model.threshold, shown = PAGE, found = [], timer = 0;

  const sorted = data.models.map((m) => {
    const of = [[], []];
    m.scores.forEach((s, i) => of[spam[i]].push(s));
    return of.map((a) => Float64Array.from(a).sort());
  });
  // How many of the sorted scores are at or above t.
  const above = (a, t) => {
    let low = 0, high = a.length;
    while (low < high) { const mid = (low + high) >> 1; if (a[mid] < t) low = mid + 1; else high = mid; }
    return a.length - low;
  };
  const counts = (t) => {
    const [ham, sp] = sorted[data.models.indexOf(model)];
    const tp = above(sp, t), fp = above(ham, t);
    return { tp, fp, fn: sp.length - tp, tn: ham.length - fp };
  };
  const number = (n) => n.toLocaleString("en");
  const ratio = (a, b) => (b ? (a / b).toFixed(4) : "n/a");
  const put = (id, text) => { $(id).textContent = text; };
  const cost = (c) => c.fp * (+$("cost-fp").value || 0) + c.fn * (+$("cost-fn").value || 0);

  const showCounts = () => {
    const c = counts(threshold);
    for (const k of ["tp", "fp", "fn", "tn"]) put(k, number(c[k]));
    put("precision", ratio(c.tp, c.tp + c.fp));
    put("recall", ratio(c.tp, c.tp + c.fn));
    put("f1", ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn));
    put("ham-fpr", ratio(c.fp, c.fp + c.tn));
    put("cost", number(cost(c)));
    put("at", threshold.toFixed(4));
    $("slider").setAttribute("aria-valuetext",
      `threshold ${threshold.toFixed(3)}: ${c.fp} ham messages lost, ${c.fn} spam messages passed`);
    const line = $("curve-at");
    line.setAttribute("x1", 1000 * threshold); line.setAttribute("x2", 1000 * threshold);
  };
  const drawCurves = () => {
    const steps = Array.from({ length: 201 }, (_, i) => i / 200);
    const [ham, sp] = sorted[data.models.indexOf(model)];
    const points = (value) => steps.map((t) => `${1000 * t},${300 - 300 * value(t)}`).join(" ");
    const precision = (t) => { const c = counts(t); return c.tp + c.fp ? c.tp / (c.tp + c.fp) : 1; };
    $("curve-precision").setAttribute("points", points(precision));
    $("curve-recall").setAttribute("points", points((t) => (sp.length ? above(sp, t) / sp.length : 0)));
    $("curve-fpr").setAttribute("points", points((t) => (ham.length ? above(ham, t) / ham.length : 0)));
  };
  const moveTo = (t, from) => {
    if (!Number.isFinite(t)) return;
    threshold = Math.min(Math.max(t, 0), 1);
    if (from !== "slider") $("slider").value = threshold;
    if (from !== "exact") $("exact").value = threshold;
    showCounts();
    clearTimeout(timer);
    timer = setTimeout(filter, 120);
  };
  const cheapest = () => {
    const candidates = [0.5, model.threshold, 1, ...model.scores];
    let best = model.threshold, least = Infinity;
    for (const t of candidates) { const at = cost(counts(t)); if (at < least) { least = at; best = t; } }
    moveTo(best);
  };

  const members = data.rows.map((rows) => new Set(rows));
  const filter = () => {
    const kind = $("kind").value, slice = $("slice").value, source = $("source").value;
    const words = $("words").value.toLowerCase();
    const scores = model.scores;
    found = [];
    for (let i = 0; i < total; i++) {
      const predicted = scores[i] >= threshold ? 1 : 0;
      if (kind === "errors" && predicted === spam[i]) continue;
      if (kind === "fp" && !(predicted && !spam[i])) continue;
      if (kind === "fn" && !(!predicted && spam[i])) continue;
      if (kind === "moved" && data.models.every((m) => (m.scores[i] >= m.threshold ? 1 : 0) ===
          (data.models[0].scores[i] >= data.models[0].threshold ? 1 : 0))) continue;
      if (slice !== "" && !members[slice].has(i)) continue;
      if (source !== "" && data.source[i] !== +source) continue;
      if (words && !(data.texts[i] || "").toLowerCase().includes(words)) continue;
      found.push(i);
    }
    const far = (i) => Math.abs(scores[i] - threshold);
    const wrong = (i) => (scores[i] >= threshold ? 1 : 0) !== spam[i];
    found.sort((a, b) => (wrong(b) - wrong(a)) || (wrong(a) ? far(b) - far(a) : far(a) - far(b)) || a - b);
    shown = PAGE;
    render();
  };

  const element = (name, text, cls) => {
    const e = document.createElement(name);
    if (text !== undefined) e.textContent = text;
    if (cls) e.className = cls;
    return e;
  };
  // Positions count characters, and strings have halves of some.
  const colored = (text, words) => {
    const characters = [...text], p = element("p", undefined, "message");
    p.dir = "auto";
    let at = 0;
    for (const [start, end, value] of words) {
      p.append(characters.slice(at, start).join(""));
      p.append(element("mark", characters.slice(start, end).join(""), value > 0 ? "to-spam" : "to-ham"));
      at = end;
    }
    p.append(characters.slice(at).join(""));
    return p;
  };
  const item = (i) => {
    const li = element("li");
    const text = data.texts[i], score = model.scores[i];
    const predicted = score >= threshold ? "spam" : "ham", label = spam[i] ? "spam" : "ham";
    const head = element("p", undefined, "head");
    head.append(element("strong", `${label} labeled ${predicted}`, label === predicted ? "" : "wrong"),
      ` · ${score.toFixed(4)} · ${data.sources[data.source[i]]}`);
    for (const m of data.models) if (m !== model) head.append(` · ${m.name}: ${m.scores[i].toFixed(4)}`);
    li.append(head);
    const features = data.features[i] || [];
    li.append(text === null ? element("p", "The text is not in this page; see predictions.csv.", "note")
      : colored(text, data.words[i] || []));
    if (features.length) {
      const list = element("p", undefined, "features");
      for (const [name, value] of features)
        list.append(element("span", `${name} ${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(2)}`, value > 0 ? "to-spam" : "to-ham"), " ");
      li.append(list);
    }
    const near = data.near[i] || [];
    if (near.length) {
      const details = element("details");
      details.append(element("summary", "Similar training messages"));
      const ul = element("ul");
      for (const [t, l, s] of near) {
        const like = element("li", `${l}, ${s.toFixed(2)}: `), told = element("bdi", t);
        told.dir = "auto";
        like.append(told);
        ul.append(like);
      }
      details.append(ul);
      li.append(details);
    }
    return li;
  };
  const render = () => {
    const list = $("messages");
    list.replaceChildren(...found.slice(0, shown).map(item));
    put("found", `${number(found.length)} of ${number(total)} messages${found.length > shown ? `, the first ${shown} shown` : ""}`);
    $("more").hidden = found.length <= shown;
  };
  const tellThreshold = () => {
    put("chosen", model.estimated ? "the chosen one, estimated" : "the chosen one");
    $("estimated").hidden = !model.estimated;
  };
  const choose = (id, names) => names.forEach((name, i) => {
    const option = element("option", name); option.value = i; $(id).append(option);
  });

  choose("slice", data.slices); choose("source", data.sources); choose("model", data.models.map((m) => m.name));
  $("model").parentElement.hidden = data.models.length < 2;
  if (data.models.length < 2) $("kind").querySelector("[value=moved]").remove();
  $("slider").addEventListener("input", (e) => moveTo(+e.target.value, "slider"));
  $("exact").addEventListener("input", (e) => e.target.value !== "" && moveTo(+e.target.value, "exact"));
  for (const id of ["cost-fp", "cost-fn"]) $(id).addEventListener("input", showCounts);
  for (const id of ["kind", "slice", "source"]) $(id).addEventListener("change", filter);
  $("words").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(filter, 120); });
  $("chosen").addEventListener("click", () => moveTo(model.threshold));
  $("cheapest").addEventListener("click", cheapest);
  $("more").addEventListener("click", () => {
    const list = $("messages"), from = shown;
    shown += PAGE;
    list.append(...found.slice(from, shown).map(item));
    put("found", `${number(found.length)} of ${number(total)} messages${found.length > shown ? `, the first ${shown} shown` : ""}`);
    $("more").hidden = found.length <= shown;
    list.children[from].setAttribute("tabindex", "-1");
    list.children[from].focus();
  });
  $("model").addEventListener("change", (e) => { model = data.models[+e.target.value]; tellThreshold(); drawCurves(); moveTo(model.threshold); });
  $("explorer").hidden = false;
  tellThreshold();
  drawCurves();
  moveTo(threshold);
  clearTimeout(timer);
  filter();
})();
