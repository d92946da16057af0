"use strict";
// Draws a report page from the JSON that stands in it. Texts are only ever set as text, never as HTML.
const DATA = JSON.parse(document.getElementById("data").textContent);
const KINDS = Object.keys(DATA.kinds);
const COLOURS = ["#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00", "#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25"];
const NAMES = ["black", "blue", "red", "green", "yellow", "grey", "magenta", "orange", "azure", "maroon"];
const STAGES = ["quick", "tune", "answer", "score"];
const MOST_DRAWN = 24;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function shape(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const number = (value, digits = 1) => (value === null || value === undefined ? "-" : value.toFixed(digits));
const percent = (value) => (value === null || value === undefined ? "-" : `${(100 * value).toFixed(1)}%`);

// Grids ---------------------------------------------------------------------------------------------------------------

function described(text) {
  const rows = text.split("/");
  return `grid of ${rows.length} rows and ${rows[0].length} columns: ${rows.map((row) => [...row].map((c) => NAMES[c]).join(" ")).join("; ")}`;
}

function drawn(text) {
  const rows = text.split("/"), side = Math.max(rows.length, rows[0].length);
  const cell = Math.max(4, Math.min(18, Math.floor(132 / side)));
  const canvas = make("canvas", { role: "img", "aria-label": described(text), width: rows[0].length * cell + 1, height: rows.length * cell + 1 });
  const context = canvas.getContext("2d");
  context.fillStyle = "#555555";
  context.fillRect(0, 0, canvas.width, canvas.height);
  rows.forEach((row, y) => [...row].forEach((colour, x) => {
    context.fillStyle = COLOURS[colour];
    context.fillRect(x * cell + 1, y * cell + 1, cell - 1, cell - 1);
  }));
  return canvas;
}

function figure(text, caption, isRight = false) {
  const shown = text === null ? make("p", {}, "?") : drawn(text);
  return make("figure", { class: isRight ? "right" : null }, shown, make("figcaption", {}, caption));
}

// Runs ----------------------------------------------------------------------------------------------------------------

function cellOf(value) {
  const isNumber = typeof value === "number";
  return make("td", { class: isNumber ? "number" : null }, String(value));
}

function tableOf(caption, names, rows) {
  const head = make("tr", {}, make("th", { scope: "col" }, ""), ...names.map((name) => make("th", { scope: "col" }, name)));
  const body = rows.map(([label, values]) => make("tr", {}, make("th", { scope: "row" }, label), ...values.map(cellOf)));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
}

function showRuns() {
  const runs = DATA.runs, names = runs.map((run) => run.name);
  const outcomes = KINDS.filter((kind) => runs.some((run) => countKind(run, kind)));
  const kinds = outcomes.map((kind) => [DATA.kinds[kind], runs.map((run) => countKind(run, kind))]);
  const scores = [...new Set(runs.flatMap((run) => Object.keys(run.scores)))].filter((name) => runs.some((run) => isScore(run.scores[name])));
  const rows = scores.map((name) => [name, runs.map((run) => scoreText(run.scores[name]))]);
  const facts = Object.keys(runs[0].facts).map((fact) => [fact, runs.map((run) => run.facts[fact])]);
  byId("runs").append(
    tableOf("What became of the test inputs", names, kinds),
    tableOf("Scores with 95% intervals", names, rows),
    tableOf("Settings", names, facts),
  );
  const solved = runs.map((run) => `${run.name}: ${countKind(run, "solved")} of ${countQueries(run)} test outputs solved by the model`);
  byId("lead").textContent = solved.join("; ");
}

const isScore = (value) => Boolean(value) && value.mean !== undefined;
const scoreText = (value) => (isScore(value) ? `${percent(value.mean)} (${percent(value.low)} to ${percent(value.high)})` : "-");
const queriesOf = (run) => Object.values(run.tasks).flatMap((task) => task.queries);
const countQueries = (run) => queriesOf(run).length;
const countKind = (run, kind) => queriesOf(run).filter((query) => query.kind === kind).length;

// Run against run -----------------------------------------------------------------------------------------------------

const odds = (pair) => (pair ? `${number(pair[0], 2)} to ${pair[1] === null ? "any" : number(pair[1], 2)}` : "-");

function versus(one) {
  const points = `${one.uplift >= 0 ? "+" : ""}${number(100 * one.uplift)}`;
  const p = one.p_value === null ? "-" : one.p_value < 0.001 ? "under 0.001" : number(one.p_value, 3);
  return [`${one.way}, ${one.unit}`, [one.n, one.both, one.only_first, one.only_second, one.neither, points, p, odds(one.odds_95), one.shows]];
}

function listed(run, ids) {
  const links = ids.flatMap(([id, input]) => {
    const link = make("a", { href: "#tasks" }, input ? `${id} input ${input}` : id);
    link.addEventListener("click", (event) => {
      event.preventDefault();
      goTo(id);
    });
    return [link, " "];
  });
  return make("p", {}, `Solved by ${run} alone, as submitted: ${ids.length} `, ...links);
}

function showVersus() {
  byId("versus").hidden = DATA.runs.length < 2;
  const pairs = new Map();
  for (const one of DATA.comparisons) {
    const key = JSON.stringify([one.first, one.second]);
    pairs.set(key, [...(pairs.get(key) || []), one]);
  }
  for (const all of pairs.values()) {
    const { first, second } = all[0];
    const columns = ["of", "both", `only ${first}`, `only ${second}`, "neither", "points", "p", "odds, 95%", "what it shows"];
    const submitted = all.find((one) => one.way === "as submitted" && one.unit === "outputs");
    byId("compared").append(make("div", { class: "scroll" }, tableOf(`${first} against ${second}`, columns, all.map(versus))),
      listed(first, submitted.by_first), listed(second, submitted.by_second));
  }
}

const SOLVED = ["solved", "solved_by_rule"];
const isSolved = (run, id) => Boolean(run.tasks[id]) && run.tasks[id].queries.every((query) => SOLVED.includes(query.kind));

// By value of the menu: its words, and whether a task that these runs solve, of all that there are, is shown.
const DIFFER = new Map([["differ", ["where runs differ", (solvers, n) => solvers.length && solvers.length < n]],
  ["all", ["solved by every run", (solvers, n) => solvers.length === n]], ["none", ["solved by no run", (solvers) => !solvers.length]],
  ...DATA.runs.map((run, i) => [`only-${i}`, [`solved by ${run.name} alone`, (solvers) => solvers.length === 1 && solvers[0] === run]])]);

function fitsDiffer(id) {
  const way = DIFFER.get(byId("differ").value), runs = DATA.runs.filter((run) => run.tasks[id]);
  return !way || Boolean(way[1](runs.filter((run) => isSolved(run, id)), runs.length));
}

// Charts --------------------------------------------------------------------------------------------------------------

function curve(run) {
  const points = run.curve, width = 420, height = 180, left = 34, bottom = 24;
  if (!points.length) return make("p", {}, `${run.name}: no answer is known, so there is no curve`);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Coverage and selection over views, ${run.name}` });
  const most = Math.max(1, ...points.map((point) => point.covered));
  const x = (i) => left + (points.length === 1 ? 0 : (i * (width - left - 12)) / (points.length - 1));
  const y = (count) => 8 + (1 - count / most) * (height - 8 - bottom);
  svg.append(shape("path", { class: "axis", d: `M${left} 8V${height - bottom}H${width - 8}` }));
  svg.append(shape("text", { x: 2, y: 16 }, String(most)), shape("text", { x: 2, y: height - bottom }, "0"));
  points.forEach((point, i) => svg.append(shape("text", { x: x(i) - 4, y: height - 8 }, String(point.views))));
  for (const name of ["covered", "selected"]) {
    svg.append(shape("path", { class: name, d: points.map((point, i) => `${i ? "L" : "M"}${x(i)} ${y(point[name])}`).join("") }));
  }
  const rows = points.map((point) => [`${point.views} views`, [point.covered, point.selected, point.n]]);
  const table = tableOf("Test outputs", ["covered (blue)", "among two attempts (green)", "of"], rows);
  return make("figure", {}, svg, make("figcaption", {}, run.name), table);
}

// All runs in one chart: what is covered as a line, what is among the two attempts dashed, in shares of the outputs.
function curves() {
  const runs = DATA.runs.filter((run) => run.curve.length), width = 420, height = 200, left = 40, bottom = 24;
  if (runs.length < 2) return [];
  const views = [...new Set(runs.flatMap((run) => run.curve.map((point) => point.views)))].sort((a, b) => a - b);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Coverage and selection over views, all runs" });
  const most = Math.max(0.01, ...runs.flatMap((run) => run.curve.map((point) => point.covered / point.n)));
  const x = (view) => left + (views.length === 1 ? 0 : (views.indexOf(view) * (width - left - 12)) / (views.length - 1));
  const y = (share) => 8 + (1 - share / most) * (height - 8 - bottom);
  svg.append(shape("path", { class: "axis", d: `M${left} 8V${height - bottom}H${width - 8}` }), shape("text", { x: 0, y: 16 }, percent(most)));
  views.forEach((view) => svg.append(shape("text", { x: x(view) - 4, y: height - 8 }, String(view))));
  runs.forEach((run, i) => {
    for (const name of ["covered", "selected"]) {
      svg.append(shape("path", { class: `run run-${i % 6} of-${name}`, d: run.curve.map((point, k) => `${k ? "L" : "M"}${x(point.views)} ${y(point[name] / point.n)}`).join("") }));
    }
  });
  const key = runs.map((run, i) => make("span", { class: `key key-${i % 6}` }, run.name));
  return [make("figure", {}, svg, make("figcaption", {}, "covered as a line, among two attempts dashed: ", ...key))];
}

function timeline(run) {
  const workers = [...new Set(run.stages.map((stage) => stage.worker))].sort((a, b) => a - b);
  const end = Math.max(1, run.facts.seconds, ...run.stages.map((stage) => stage.begin + stage.seconds));
  const width = 640, row = 22, height = row * workers.length + 24;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Stages over time, ${run.name}` });
  workers.forEach((worker, i) => svg.append(shape("text", { x: 2, y: i * row + 15 }, `w${worker}`)));
  for (const stage of run.stages) {
    const at = 30 + (stage.begin / end) * (width - 40), long = Math.max(0.5, (stage.seconds / end) * (width - 40));
    const bar = shape("rect", { class: `bar-${stage.lost ? "lost" : stage.stage}`, x: at, y: workers.indexOf(stage.worker) * row + 3, width: long, height: row - 6 });
    bar.append(shape("title", {}, `${stage.task}, ${stage.stage}: ${number(stage.seconds)} s, planned ${number(stage.predicted)} s ${stage.lost}`));
    svg.append(bar);
  }
  svg.append(shape("text", { x: 30, y: height - 6 }, "0 s"), shape("text", { x: width - 60, y: height - 6 }, `${number(end, 0)} s`));
  return make("figure", {}, svg, make("figcaption", {}, `${run.name}: purple is fine-tuning, blue answers, grey quick answers, green scores, red was lost`), ...timeTables(run, workers));
}

function timeTables(run, workers) {
  const total = (rows, name) => rows.reduce((sum, stage) => sum + stage[name], 0);
  const rowsOf = (chosen) => [chosen.length, Number(number(total(chosen, "seconds"))), Number(number(total(chosen, "predicted"))), chosen.filter((stage) => stage.lost).length];
  const columns = ["stages", "seconds", "planned", "lost"];
  const stages = STAGES.map((name) => [name, rowsOf(run.stages.filter((stage) => stage.stage === name))]);
  const each = workers.map((worker) => [`worker ${worker}`, rowsOf(run.stages.filter((stage) => stage.worker === worker))]);
  const crossed = workers.map((worker) => [`worker ${worker}`, crossedOf(run, run.stages.filter((stage) => stage.worker === worker))]);
  const ended = Object.entries(run.ended).map(([why, count]) => [why, [count]]);
  return [tableOf("By stage", columns, stages), tableOf("By worker", columns, each), tableOf("Worker by worker and stage by stage, seconds", [...STAGES, "none"], crossed), tableOf("How the plan ended, tasks", ["tasks"], ended)];
}

// Seconds of a worker in every stage, and in none of them: loading, waiting, or after its last one.
function crossedOf(run, rows) {
  const spent = STAGES.map((name) => rows.filter((stage) => stage.stage === name).reduce((sum, stage) => sum + stage.seconds, 0));
  const none = Math.max(0, run.facts.seconds - spent.reduce((sum, seconds) => sum + seconds, 0));
  return [...spent, none].map((seconds) => Number(number(seconds)));
}

// Tasks ---------------------------------------------------------------------------------------------------------------

const tone = (kind) => (kind === "solved" ? "good" : ["solved_by_rule", "outvoted", "near_miss", "not_scored"].includes(kind) ? "fair" : "bad");
const secondsOf = (task) => (task.tune ? task.tune.seconds : 0) + task.infer_seconds;
const pixelsOf = (task) => Math.max(0, ...task.queries.flatMap((query) => query.candidates.map((candidate) => candidate.pixels ?? 0)));

function cardBody(id) {
  const first = DATA.runs.find((run) => run.tasks[id]).tasks[id];
  const pairs = first.train.map(([input, output], i) => make("div", { class: "pair" }, figure(input, `input ${i + 1}`), make("span", { class: "arrow", "aria-hidden": "true" }, "→"), figure(output, `output ${i + 1}`)));
  const sides = DATA.runs.filter((run) => run.tasks[id]).map((run) => make("div", {}, ...runSide(run, run.tasks[id])));
  return [make("h4", {}, "Train pairs"), make("div", { class: "grids" }, ...pairs), make("div", { class: "side" }, ...sides)];
}

function runSide(run, task) {
  const head = DATA.runs.length > 1 ? [make("h4", {}, `Run ${run.name}`)] : [];
  const tuned = task.tune ? `fine-tuning ${number(task.tune.seconds)} s, loss ${number(task.tune.first_loss, 3)} to ${number(task.tune.last_loss, 3)}` : "not fine-tuned";
  const facts = `${task.verdict}; ${tuned}; answering ${number(task.infer_seconds)} s; train pairs left out ${task.dropped_pairs}; ${task.ended}`;
  return [...head, make("p", {}, facts), ...task.queries.flatMap(querySide)];
}

function querySide(query, i) {
  const grids = [figure(query.input, `test input ${i + 1}`), figure(query.answer, query.answer === null ? "answer not known" : "answer")];
  query.attempts.forEach((attempt, k) => grids.push(figure(attempt.grid, `attempt ${k + 1} by ${attempt.by}, ${percent(attempt.pixels)} of cells`, attempt.pixels === 1)));
  const candidate = (each, k) => figure(each.grid, candidateText(each, k), each.pixels === 1);
  const candidates = query.candidates.slice(0, MOST_DRAWN).map(candidate);
  const reasons = Object.entries(query.reasons).map(([reason, count]) => `${reason} ${count}`).join(", ");
  const kind = make("p", {}, make("span", { class: `kind ${tone(query.kind)}` }, DATA.kinds[query.kind]), `; ${query.n_views} views${reasons ? `; no grid: ${reasons}` : ""}`);
  const title = `Candidates of test input ${i + 1}: ${query.n_candidates}` + (query.n_candidates > query.candidates.length ? `, the first ${query.candidates.length}` : "");
  const more = query.candidates.length > MOST_DRAWN ? [moreCandidates(query, candidate)] : [];
  return [kind, make("div", { class: "grids" }, ...grids), make("h4", {}, title), make("div", { class: "grids" }, ...candidates), ...more];
}

// The candidates behind the first ones, drawn as they are asked for.
function moreCandidates(query, drawnAs) {
  const rest = query.candidates.slice(MOST_DRAWN), body = make("div", { class: "grids" });
  const details = make("details", {}, make("summary", {}, `${rest.length} more candidates`), body);
  details.addEventListener("toggle", () => {
    if (!body.childElementCount) body.append(...rest.map((each, k) => drawnAs(each, MOST_DRAWN + k)));
  });
  return details;
}

function candidateText(candidate, k) {
  const parts = [`${k + 1}. ${candidate.votes} votes`, `views ${candidate.views.join(" ")}`, `log P ${number(candidate.log_prob, 2)}`];
  if (candidate.nll !== null) parts.push(`NLL ${number(candidate.nll, 2)}`);
  if (candidate.verdict !== null) parts.push(`verdict ${number(candidate.verdict, 2)}`);
  if (candidate.pixels !== null) parts.push(`${percent(candidate.pixels)} of cells`);
  return parts.join(", ");
}

const CARDS = new Map();
const near = new Set();
let isDrawing = false;
const observer = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) near.add(entry.target);
    else near.delete(entry.target);
  }
  if (!isDrawing) drawNext();
}, { rootMargin: "600px" });

// One task a frame of those that come near, so that no frame of scrolling takes long; what came last is drawn first.
function drawNext() {
  isDrawing = near.size > 0;
  if (isDrawing) requestAnimationFrame(() => {
    for (const card of [...near].slice(-1)) fill(card);
    drawNext();
  });
}

function fill(card) {
  if (card.dataset.filled) return;
  card.dataset.filled = "yes";
  card.append(...cardBody(card.dataset.task));
  observer.unobserve(card);
  near.delete(card);
}

function makeCards() {
  const ids = [...new Set(DATA.runs.flatMap((run) => Object.keys(run.tasks)))];
  for (const id of ids) {
    const kinds = DATA.runs.filter((run) => run.tasks[id]).map((run) => run.tasks[id].kind);
    const badges = kinds.flatMap((kind) => [" ", make("span", { class: `kind ${tone(kind)}` }, DATA.kinds[kind])]);
    const card = make("article", { tabindex: "-1", "aria-label": `task ${id}` }, make("h3", {}, id, ...badges));
    card.dataset.task = id;
    CARDS.set(id, card);
    observer.observe(card);
  }
  byId("tasks").append(...CARDS.values());
}

// Filters -------------------------------------------------------------------------------------------------------------

const chosen = { kinds: new Set(), run: 0 };

function makeFilters() {
  DATA.runs.forEach((run, i) => byId("which").append(make("option", { value: i }, run.name)));
  for (const [value, [words]] of DIFFER) byId("differ").append(make("option", { value }, words));
  for (const id of ["which-field", "differ-field"]) byId(id).hidden = DATA.runs.length < 2;
  for (const kind of KINDS) {
    const button = make("button", { type: "button", "aria-pressed": "false", "data-kind": kind }, "");
    button.addEventListener("click", () => {
      if (!chosen.kinds.delete(kind)) chosen.kinds.add(kind);
      button.setAttribute("aria-pressed", String(chosen.kinds.has(kind)));
      refresh();
    });
    byId("kinds").append(button);
  }
  for (const id of ["find", "sort", "which", "differ"]) for (const event of ["input", "change"]) byId(id).addEventListener(event, refresh);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
}

const ORDERS = {
  kind: (a, b) => KINDS.indexOf(b.kind) - KINDS.indexOf(a.kind),
  order: () => 0,
  seconds: (a, b) => secondsOf(b) - secondsOf(a),
  pixels: (a, b) => pixelsOf(b) - pixelsOf(a),
};

function refresh() {
  chosen.run = Number(byId("which").value || 0);
  const tasks = DATA.runs[chosen.run].tasks, found = byId("find").value.trim().toLowerCase();
  const order = ORDERS[byId("sort").value];
  for (const button of byId("kinds").children) {
    const kind = button.dataset.kind;
    const n = Object.values(tasks).filter((task) => task.kind === kind).length;
    button.textContent = `${DATA.kinds[kind]}: ${n}`;
    button.disabled = !n && !chosen.kinds.has(kind);
  }
  const sorted = [...CARDS.keys()].sort((a, b) => (tasks[a] && tasks[b] ? order(tasks[a], tasks[b]) : 0));
  let count = 0;
  for (const id of sorted) {
    const task = tasks[id], card = CARDS.get(id);
    const fits = task && id.toLowerCase().includes(found) && (!chosen.kinds.size || chosen.kinds.has(task.kind)) && fitsDiffer(id);
    card.hidden = !fits;
    count += fits ? 1 : 0;
  }
  byId("tasks").append(...sorted.map((id) => CARDS.get(id)));
  byId("count").textContent = `${count} of ${CARDS.size} tasks`;
}

// Show a task whatever is filtered, and go there.
function goTo(id) {
  chosen.kinds.clear();
  for (const button of byId("kinds").children) button.setAttribute("aria-pressed", "false");
  byId("find").value = byId("differ").value = "";
  refresh();
  fill(CARDS.get(id));
  CARDS.get(id).scrollIntoView();
  CARDS.get(id).focus();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName)) return;
  if (event.key === "/") {
    byId("find").focus();
    event.preventDefault();
  } else if (event.key === "j" || event.key === "k") {
    const cards = [...byId("tasks").children].filter((card) => !card.hidden);
    const at = cards.indexOf(document.activeElement.closest("article"));
    const next = cards[event.key === "j" ? at + 1 : Math.max(0, at - 1)];
    if (next) {
      fill(next);
      next.focus();
    }
  }
}

showRuns();
showVersus();
byId("curves").append(...curves(), ...DATA.runs.map(curve));
byId("time").append(...DATA.runs.map(timeline));
makeCards();
makeFilters();
refresh();
document.addEventListener("keydown", onKey);
