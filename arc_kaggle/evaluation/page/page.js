"use strict";
// Draws a report page from the JSON that stands in it. Texts are only ever set as text, never as HTML.
const DATA = JSON.parse(document.getElementById("data").textContent);
const KINDS = Object.keys(DATA.kinds);
const COLOURS = ["#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00", "#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25"];
const NAMES = ["black", "blue", "red", "green", "yellow", "grey", "magenta", "orange", "azure", "maroon"];
const STAGES = ["joint", "load", "quick", "tune", "answer", "score"];
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

function figure(text, caption, isRight = false, title = null) {
  const shown = text === null ? make("p", {}, "?") : drawn(text);
  return make("figure", { class: isRight ? "right" : null }, shown, make("figcaption", { title: title || null }, caption));
}

// Runs ----------------------------------------------------------------------------------------------------------------

function cellOf(value) {
  const isNumber = /^(-|[-+]?[0-9.]+)$/.test(String(value));
  return make("td", { class: isNumber ? "number" : null }, String(value));
}

function tableOf(caption, names, rows) {
  const head = make("tr", {}, make("th", { scope: "col" }, ""), ...names.map((name) => make("th", { scope: "col" }, name)));
  const body = rows.map(([label, values]) => make("tr", {}, make("th", { scope: "row" }, label), ...values.map(cellOf)));
  return make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
}

// What is drawn as soon as somebody opens it.
function opened(summary, layout, draw) {
  const body = make("div", { class: layout }), details = make("details", {}, make("summary", {}, summary), body);
  details.addEventListener("toggle", () => {
    if (!body.childElementCount) body.append(...draw());
  });
  return details;
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
  const troubles = runs.filter((run) => run.trouble).map((run) => make("p", { class: "bad" }, `${run.name}: ${run.trouble}`));
  byId("runs").after(...troubles);
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
