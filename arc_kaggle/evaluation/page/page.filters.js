// Filters -------------------------------------------------------------------------------------------------------------

const reasonsOf = (task) => new Set(task.queries.flatMap((query) => Object.keys(query.reasons)));
const FAILURES = [...new Set(DATA.runs.flatMap((run) => Object.values(run.tasks)).flatMap((task) => [...reasonsOf(task)]))].sort();

// By value of the menu: whether some view of a task has no grid, for that reason.
function fitsFailed(task, value) {
  const reasons = reasonsOf(task);
  return !value || (value === "any" ? reasons.size > 0 : reasons.has(value));
}

// What of a card is found: its id, what became of it, why the plan ended, who proposed what, and its kinds of view.
function searchText(id, task) {
  const queries = task.queries.flatMap((query) => [DATA.kinds[query.kind], ...query.attempts.map((attempt, k) => `attempt ${k + 1} by ${attempt.by}`)]);
  const symmetries = [...new Set(Object.values(task.views).map((view) => DATA.symmetries[view[0]]))];
  return [id, task.verdict, task.ended, tunedText(task.tune), ...queries, ...reasonsOf(task), ...symmetries].join(" ").toLowerCase();
}

const TEXTS = new WeakMap();

function fitsSearch(id, task, words) {
  if (words.length && !TEXTS.has(task)) TEXTS.set(task, searchText(id, task));
  return words.every((word) => TEXTS.get(task).includes(word));
}

const chosen = { kinds: new Set(), run: 0 };

function makeFilters() {
  DATA.runs.forEach((run, i) => byId("which").append(make("option", { value: i }, run.name)));
  for (const [value, [words]] of DIFFER) byId("differ").append(make("option", { value }, words));
  for (const id of ["which-field", "differ-field"]) byId(id).hidden = DATA.runs.length < 2;
  for (const reason of FAILURES) byId("failed").append(make("option", { value: reason }, reason));
  for (const kind of KINDS) {
    const button = make("button", { type: "button", "aria-pressed": "false", "data-kind": kind }, "");
    button.addEventListener("click", () => {
      if (!chosen.kinds.delete(kind)) chosen.kinds.add(kind);
      button.setAttribute("aria-pressed", String(chosen.kinds.has(kind)));
      refresh();
    });
    byId("kinds").append(button);
  }
  for (const id of ["find", "sort", "which", "differ", "failed"]) for (const event of ["input", "change"]) byId(id).addEventListener(event, refresh);
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
  const tasks = DATA.runs[chosen.run].tasks, words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const order = ORDERS[byId("sort").value];
  for (const button of byId("kinds").children) {
    const kind = button.dataset.kind;
    const n = Object.values(tasks).filter((task) => task.kind === kind).length;
    button.textContent = `${DATA.kinds[kind]}: ${n}`;
    button.disabled = !n && !chosen.kinds.has(kind);
  }
  for (const option of byId("failed").options) {
    const n = Object.values(tasks).filter((task) => fitsFailed(task, option.value)).length;
    option.textContent = `${{ "": "all tasks", any: "for any reason" }[option.value] || option.value}: ${n}`;
  }
  const sorted = [...CARDS.keys()].sort((a, b) => (tasks[a] && tasks[b] ? order(tasks[a], tasks[b]) : Boolean(tasks[b]) - Boolean(tasks[a])));
  let count = 0;
  for (const id of sorted) {
    const task = tasks[id], card = CARDS.get(id);
    const fits = task && fitsSearch(id, task, words) && fitsFailed(task, byId("failed").value) && (!chosen.kinds.size || chosen.kinds.has(task.kind)) && fitsDiffer(id);
    card.hidden = !fits;
    count += fits ? 1 : 0;
  }
  byId("tasks").append(...sorted.map((id) => CARDS.get(id)));
  byId("count").textContent = `${count} of ${CARDS.size} tasks`;
}

// Show a task whatever is filtered and of whichever run it is, and go there.
function goTo(id) {
  if (!DATA.runs[chosen.run].tasks[id]) byId("which").value = String(DATA.runs.findIndex((run) => run.tasks[id]));
  chosen.kinds.clear();
  for (const button of byId("kinds").children) button.setAttribute("aria-pressed", "false");
  byId("find").value = byId("differ").value = byId("failed").value = "";
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
