// Charts --------------------------------------------------------------------------------------------------------------

function curve(run) {
  const points = run.curve, width = 420, height = 180, left = 34, bottom = 24;
  if (!points.length) return make("p", {}, `${run.name}: no answer is known, so there is no curve`);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Coverage and selection over views, ${run.name}` });
  const most = Math.max(1, ...points.map((point) => Math.max(point.covered, point.selected)));
  const x = (i) => left + (points.length === 1 ? 0 : (i * (width - left - 12)) / (points.length - 1));
  const y = (count) => 8 + (1 - count / most) * (height - 8 - bottom);
  svg.append(shape("path", { class: "axis", d: `M${left} 8V${height - bottom}H${width - 8}` }));
  svg.append(shape("text", { x: 2, y: 16 }, String(most)), shape("text", { x: 2, y: height - bottom }, "0"));
  points.forEach((point, i) => svg.append(shape("text", { x: x(i) - 4, y: height - 8 }, String(point.views))));
  for (const name of ["covered", "selected"]) {
    svg.append(shape("path", { class: name, d: points.map((point, i) => `${i ? "L" : "M"}${x(i)} ${y(point[name])}`).join("") }));
  }
  const rows = points.map((point) => [`${point.views} views`, [point.covered, point.selected, point.n]]);
  const table = tableOf("Test outputs", ["covered (blue)", "among the first two (green)", "of"], rows);
  return make("figure", {}, svg, make("figcaption", {}, `${run.name}, selected by ${run.facts["selected by"]}`), make("div", { class: "scroll" }, table));
}

// All runs in one chart: what is covered as a line, what is among the first two candidates dashed, in shares of the outputs.
function curves() {
  const runs = DATA.runs.filter((run) => run.curve.length), width = 420, height = 200, left = 40, bottom = 24;
  if (runs.length < 2) return [];
  const views = [...new Set(runs.flatMap((run) => run.curve.map((point) => point.views)))].sort((a, b) => a - b);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Coverage and selection over views, all runs" });
  const most = Math.max(0.01, ...runs.flatMap((run) => run.curve.map((point) => Math.max(point.covered, point.selected) / point.n)));
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
  return [make("figure", {}, svg, make("figcaption", {}, "covered as a line, among the first two candidates dashed: ", ...key))];
}

const laneName = (worker) => (worker === null ? "all" : `w${worker}`);
const barOf = (stage) => (stage.lost ? "lost" : stage.stage);
const BARS = { joint: "joint stage", load: "loading the model", quick: "quick answers", tune: "fine-tuning", answer: "answers", score: "scores", lost: "lost" };
const stagesOf = (run) => STAGES.filter((name) => run.stages.some((stage) => stage.stage === name));

// What all workers do together, such as the joint stage, has a lane of its own above theirs.
function lanesOf(run) {
  const workers = [...new Set(run.stages.map((stage) => stage.worker))];
  return workers.sort((a, b) => (a === null ? -1 : b === null ? 1 : a - b));
}

function timeline(run) {
  const lanes = lanesOf(run), end = Math.max(1, run.facts.seconds, ...run.stages.map((stage) => stage.begin + stage.seconds));
  const width = Math.max(320, byId("time").clientWidth), row = 22, height = row * lanes.length + 24;
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Stages over time, ${run.name}` });
  lanes.forEach((worker, i) => svg.append(shape("text", { x: 2, y: i * row + 15 }, laneName(worker))));
  for (const stage of run.stages) {
    const at = 30 + (stage.begin / end) * (width - 40), long = Math.max(0.5, (stage.seconds / end) * (width - 40));
    const bar = shape("rect", { class: `bar bar-${barOf(stage)}`, x: at, y: lanes.indexOf(stage.worker) * row + 3, width: long, height: row - 6 });
    bar.append(shape("title", {}, `${stage.task || "no task"}, ${stage.stage}: ${number(stage.seconds)} s, planned ${number(stage.predicted)} s ${stage.lost}`));
    svg.append(bar);
  }
  svg.append(shape("text", { x: 30, y: height - 6 }, "0 s"), shape("text", { x: width - 60, y: height - 6 }, `${number(end, 0)} s`));
  const seen = new Set(run.stages.map(barOf)), key = Object.keys(BARS).filter((name) => seen.has(name));
  const caption = make("figcaption", {}, `${run.name}: `, ...key.map((name) => make("span", { class: "key" }, make("span", { class: `swatch bar-${name}` }), BARS[name])));
  return make("figure", { class: "wide" }, svg, caption, make("div", { class: "scroll" }, ...timeTables(run)));
}

const total = (rows, name) => rows.reduce((sum, stage) => sum + (stage[name] ?? 0), 0);

// How many stages, their seconds, the seconds that were planned, and how many were lost.
function rowOf(chosen) {
  const isPlanned = chosen.some((stage) => stage.predicted !== null);
  return [chosen.length, number(total(chosen, "seconds")), isPlanned ? number(total(chosen, "predicted")) : "-", chosen.filter((stage) => stage.lost).length];
}

function timeTables(run) {
  const columns = ["stages", "seconds", "planned", "lost"], names = stagesOf(run), workers = lanesOf(run).filter((worker) => worker !== null);
  const byWorker = (worker) => run.stages.filter((stage) => stage.worker === worker);
  const stages = names.map((name) => [name, rowOf(run.stages.filter((stage) => stage.stage === name))]);
  const each = workers.map((worker) => [`worker ${worker}`, rowOf(byWorker(worker))]);
  const crossed = workers.map((worker) => [`worker ${worker}`, crossedOf(run, names, [...byWorker(worker), ...byWorker(null)])]);
  const counts = (of) => Object.entries(of).map(([why, count]) => [why, [count]]);
  const tables = [tableOf("By stage", columns, stages), tableOf("By worker", columns, each), tableOf("Worker by worker and stage by stage, seconds", [...names, "none"], crossed), tableOf("How the plan ended, tasks", ["tasks"], counts(run.ended))];
  return Object.keys(run.losses).length ? [...tables, tableOf("Why workers were lost", ["times"], counts(run.losses))] : tables;
}

// Seconds of a worker in every stage, and in none of them: waiting, or after its last one. The joint stage is of all.
function crossedOf(run, names, rows) {
  const spent = names.map((name) => total(rows.filter((stage) => stage.stage === name), "seconds"));
  const none = Math.max(0, run.facts.seconds - spent.reduce((sum, seconds) => sum + seconds, 0));
  return [...spent, none].map((seconds) => number(seconds));
}
