// Tasks ---------------------------------------------------------------------------------------------------------------

const tone = (kind) => (kind === "solved" ? "good" : ["solved_by_rule", "outvoted", "near_miss", "not_scored"].includes(kind) ? "fair" : "bad");
const secondsOf = (task) => (task.tune ? task.tune.seconds : 0) + task.infer_seconds;
const pixelsOf = (task) => Math.max(0, ...task.queries.flatMap((query) => query.candidates.map((candidate) => candidate.pixels ?? 0)));

function cardBody(id) {
  const first = DATA.runs.find((run) => run.tasks[id]).tasks[id];
  const pairs = first.train.map(([input, output], i) => make("div", { class: "pair" }, figure(input, `input ${i + 1}`), make("span", { class: "arrow", "aria-hidden": "true" }, "→"), figure(output, `output ${i + 1}`)));
  const sides = DATA.runs.filter((run) => run.tasks[id]).map((run) => make("div", {}, ...runSide(run, id)));
  return [make("h4", {}, "Train pairs"), make("div", { class: "grids" }, ...pairs), make("div", { class: "side" }, ...sides)];
}

function tunedText(tune) {
  if (!tune) return "not fine-tuned";
  if (!tune.tuned) return `not fine-tuned: ${tune.reason}`;
  return `fine-tuning ${number(tune.seconds)} s, loss ${number(tune.first_loss, 3)} to ${number(tune.last_loss, 3)}${tune.reason ? `, ${tune.reason}` : ""}`;
}

function runSide(run, id) {
  const task = run.tasks[id], head = DATA.runs.length > 1 ? [make("h4", {}, `Run ${run.name}`)] : [];
  const facts = `${task.verdict}; ${tunedText(task.tune)}; answering ${number(task.infer_seconds)} s; train pairs left out ${task.dropped_pairs}; ${task.ended}`;
  return [...head, make("p", {}, facts), planOf(run, id), viewsOf(task), ...task.queries.flatMap((query, i) => querySide(query, i, viewTexts(task)))];
}

// What the plan allowed every stage of the task, beside what it took and what came of it.
function planOf(run, id) {
  const stages = run.stages.filter((stage) => stage.task === id).sort((a, b) => a.begin - b.begin);
  const [n, took, planned, lost] = rowOf(stages);
  const columns = ["begun at, s", "worker", "views", "planned, s", "at most, s", "took, s", "what came of it"];
  const cells = (stage) => [number(stage.begin), stage.worker, stage.stage === "tune" ? "-" : `${stage.views[0]} to ${stage.views[1] - 1}`,
    number(stage.predicted), number(stage.most), number(stage.seconds), stage.lost || stage.note || "done"];
  const label = (stage) => (stage.level ? `${stage.stage}, gentler by ${stage.level}` : stage.stage);
  const summary = `Plan: ${n} stages, planned ${planned} s, took ${took} s${lost ? `, ${lost} lost` : ""}`;
  return opened(summary, "scroll", () => [tableOf("Stages of the task", columns, stages.map((stage) => [label(stage), cells(stage)]))]);
}

const pairsOf = (order) => (order === null ? "as given" : order.map((pair) => pair + 1).join(" "));

function coloursOf(digits) {
  const changes = [...digits].flatMap((now, colour) => (Number(now) === colour ? [] : [`${NAMES[colour]}→${NAMES[now]}`]));
  return changes.join(" ") || "as given";
}

// By number of the view, what it does in words.
function viewTexts(task) {
  const text = ([view, [symmetry, colours, order]]) => [view, `view ${view}: ${DATA.symmetries[symmetry]}; colours ${coloursOf(colours)}; train pairs ${pairsOf(order)}`];
  return Object.fromEntries(Object.entries(task.views).map(text));
}

// Which candidates a view gave of a test input, or why it gave none.
function givenBy(query, view) {
  const given = query.candidates.flatMap((candidate, k) => (candidate.views.includes(view) ? [k + 1] : []));
  return [...given, query.failed[view]].filter(Boolean).join(", ") || "-";
}

function viewsOf(task) {
  const views = Object.keys(task.views).map(Number), columns = ["symmetry", "colours", "order of train pairs", ...task.queries.map((_, i) => `candidate of test input ${i + 1}`)];
  const cells = (view) => {
    const [symmetry, colours, order] = task.views[view];
    return [DATA.symmetries[symmetry], coloursOf(colours), pairsOf(order), ...task.queries.map((query) => givenBy(query, view))];
  };
  return opened(`Views: ${views.length}`, "scroll", () => [tableOf("How every view shows the task, and what it gave", columns, views.map((view) => [`view ${view}`, cells(view)]))]);
}

function querySide(query, i, texts) {
  const grids = [figure(query.input, `test input ${i + 1}`), figure(query.answer, query.answer === null ? "answer not known" : "answer")];
  query.attempts.forEach((attempt, k) => grids.push(figure(attempt.grid, `attempt ${k + 1} by ${attempt.by}, ${percent(attempt.pixels)} of cells`, attempt.pixels === 1)));
  const candidate = (each, k) => figure(each.grid, candidateText(each, k), each.pixels === 1, each.views.map((view) => texts[view]).join("\n"));
  const candidates = query.candidates.slice(0, MOST_DRAWN).map(candidate);
  const reasons = Object.entries(query.reasons).map(([reason, count]) => `${reason} ${count}`).join(", ");
  const kind = make("p", {}, make("span", { class: `kind ${tone(query.kind)}` }, DATA.kinds[query.kind]), `; ${query.n_views} views${reasons ? `; no grid: ${reasons}` : ""}`);
  const title = `Candidates of test input ${i + 1}: ${query.n_candidates}` + (query.n_candidates > query.candidates.length ? `, the first ${query.candidates.length}` : "");
  const rest = query.candidates.slice(MOST_DRAWN), draw = () => rest.map((each, k) => candidate(each, MOST_DRAWN + k));
  const more = rest.length ? [opened(`${rest.length} more candidates`, "grids", draw)] : [];
  return [kind, make("div", { class: "grids" }, ...grids), make("h4", {}, title), make("div", { class: "grids" }, ...candidates), ...more];
}

function candidateText(candidate, k) {
  const parts = candidate.votes ? [`${k + 1}. ${candidate.votes} ${candidate.votes === 1 ? "vote" : "votes"}`, `views ${candidate.views.join(" ")}`, `log P ${number(candidate.log_prob, 2)}`]
    : [`${k + 1}. made of the commonest colour of each cell`, "given by no view"];
  if (candidate.later) parts.push(`behind a likelier one in views ${candidate.later.join(" ")}`);
  if (candidate.extracted) parts.push(`found among other words in views ${candidate.extracted.join(" ")}`);
  if (candidate.nll !== null) parts.push(`NLL ${number(candidate.nll, 2)}`);
  if (candidate.verdict !== null) parts.push(`verdict ${number(candidate.verdict, 2)}`);
  if (candidate.duels) parts.push(`strength ${number(candidate.strength, 2)}`);
  for (const [place, won, lost] of candidate.duels || []) parts.push(`against ${place}. won ${won}, lost ${lost}`);
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
