"""Every number that the report page shows, against the files of the run, which are read as plain JSON here."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from math import inf
from pathlib import Path
from typing import Any

import pytest
from in_process import solve_here
from pages import open_page, tables
from processes import fake_config, task_values, wait_until
from scripted import DyingWorker
from selenium import webdriver
from selenium.webdriver.common.by import By

from arc_kaggle.commands.report import ReportConfig, report
from arc_kaggle.config.answer import RescoreConfig
from arc_kaggle.system.files import line_of

JOINT = (
    {"event": "joint", "at_seconds": 0.01, "minutes": 0.5},
    {"event": "joint_done", "at_seconds": 0.3, "model": "m", "trained": True},
)
INTERVAL = r"[0-9.]+% \([0-9.]+% to [0-9.]+%\)"
Rows = Sequence[Mapping[str, Any]]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_lines(path: Path, lines: Rows) -> None:
    plain = [{name: value for name, value in line.items() if name != "crc32"} for line in lines]
    path.write_bytes(b"".join(map(line_of, plain)))


class Close:
    """Equal to the text of a number with one decimal."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __eq__(self, text: object) -> bool:
        return isinstance(text, str) and len(text.partition(".")[2]) == 1 and abs(float(text) - self.value) < 0.0501

    def __repr__(self) -> str:
        return f"{self.value:.3f}"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by likelihoods with a joint stage, lost workers, views without a grid, and comparisons."""
    config = fake_config(
        tmp_path_factory.mktemp("told"), 10, rescore=RescoreConfig(n_views=2, pairs=4), select_by="nvarc"
    )
    values = task_values(10)
    for task in values.values():
        task["test"] = [{**pair, "output": [[1]]} for pair in task["test"]]
    (config.out.parent / "tasks.json").write_text(json.dumps(values))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(DyingWorker, "deaths", cycle([False, False, False, True]))
        solve_here(config, start=DyingWorker)
    for path in (config.out / "predictions").glob("*.jsonl"):
        lines = lines_of(path)
        changed = [line | ({"grid": None, "reason": "no_end"} if line["view"] == 3 else {}) for line in lines]
        write_lines(path, changed)
    scores = config.out / "scores" / "t03.jsonl"
    given = lines_of(scores)
    for i, line in enumerate(given):
        others = [o["grid"] for o in given[:i] if (o["query"], o["view"]) == (line["query"], line["view"])]
        line |= {"duels": [[grid, float(len(others) - 1.5 - line["view"])] for grid in others]} if others else {}
    write_lines(scores, given)
    solve_here(config, start=DyingWorker)  # it goes on, which is to vote and to report on what is there
    first, *rest = lines_of(config.out / "events.jsonl")
    write_lines(config.out / "events.jsonl", [first, *JOINT, *rest])
    return config.out


@pytest.fixture
def page(browser: webdriver.Chrome, told: Path) -> webdriver.Chrome:
    open_page(browser, report(ReportConfig((told,))))
    return browser


def read(run: Path, name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / name).read_text())
    return value


def queries_of(run: Path) -> list[tuple[str, int, Any]]:
    """(task id, test input, answer)."""
    tasks = json.loads((run.parent / "tasks.json").read_text())
    return [(name, i, pair["output"]) for name, task in tasks.items() for i, pair in enumerate(task["test"])]


def found_for(run: Path, task_id: str, query: int, n_views: int = 99) -> list[dict[str, Any]]:
    lines = lines_of(run / "predictions" / f"{task_id}.jsonl")
    return [line for line in lines if line["query"] == query and line["view"] < n_views]


def ranked(run: Path, task_id: str, query: int, n_views: int = 99) -> list[tuple[Any, list[dict[str, Any]], float]]:
    """(grid, its predictions, mean NLL), the best first: views less the mean NLL, then the votes' order."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in sorted(found_for(run, task_id, query, n_views), key=lambda line: line["view"]):
        if line["grid"] is not None:
            groups[json.dumps(line["grid"])].append(line)
    scores = [line for line in lines_of(run / "scores" / f"{task_id}.jsonl") if line["query"] == query]
    rows = []
    for key, group in groups.items():
        nlls = [line["nll"] for line in scores if json.dumps(line["grid"]) == key]
        rows.append((json.loads(key), group, sum(nlls) / len(nlls) if nlls else inf))

    def worth(row: tuple[Any, list[dict[str, Any]], float]) -> tuple[float, ...]:
        _, group, nll = row
        mean_log_prob = sum(line["log_prob"] / max(1, line["n_tokens"]) for line in group) / len(group)
        return len(group) - nll, len(group), mean_log_prob

    return sorted(rows, key=worth, reverse=True)


def solver_counts(run: Path) -> Counter[str | None]:
    return Counter(solver for each in read(run, "report.json")["reports"] for solver in each["solved_by"])


def test_the_lead_and_the_outcomes(page: webdriver.Chrome, told: Path) -> None:
    solvers, n = solver_counts(told), len(queries_of(told))
    assert solvers["model"] > 0
    assert page.find_element(By.ID, "lead").text == f"out: {solvers['model']} of {n} test outputs solved by the model"
    head, *rows = tables(page, "#runs")["What became of the test inputs"]
    counts = {label: int(count) for label, count in rows}
    assert head == ["", "out"] and sum(counts.values()) == n
    assert counts["solved by the model"] == solvers["model"]
    assert counts.get("solved by a simple rule or a guess", 0) == solvers["rule"] + solvers["guess"]
    outvoted = 0
    for task_id, query, answer in queries_of(told):
        attempts = read(told, "submission.json")[task_id][query].values()
        outvoted += any(grid == answer for grid, _, _ in ranked(told, task_id, query)) and answer not in attempts
    assert counts.get("right answer outvoted", 0) == outvoted


def test_the_tables_of_scores_and_of_settings(page: webdriver.Chrome, told: Path) -> None:
    expected = [
        (name, *(Close(100 * score[end]) for end in ("mean", "low", "high")))
        for name, score in read(told, "report.json")["scores"].items()
        if isinstance(score, dict) and "mean" in score
    ]
    rows = tables(page, "#runs")["Scores with 95% intervals"][1:]
    shown = [(name, *re.findall(r"[0-9.]+", text)) for name, text in rows]
    assert shown == expected and len(expected) > 5 and all(re.fullmatch(INTERVAL, text) for _, text in rows)
    config, seconds = read(told, "config.json"), read(told, "report.json")["seconds"]
    settings = dict(tables(page, "#runs")["Settings"][1:])
    assert settings == {
        "tasks": config["tasks"],
        "model": Path(config["model"]).name,
        "engine": read(told, "report.json")["engine"],
        "fine-tuning": f"{config['tune']['weights']}, {config['tune']['steps']} steps",
        "views": str(config["generate"]["n_views"]),
        "decoding": "greedy",
        "selected by": "nvarc",
        "seed": "0",
        "seconds": f"{round(seconds, 1):g}",
        "limit, minutes": f"{config['time_limit_minutes']:g}",
    }


def test_the_curve(page: webdriver.Chrome, told: Path) -> None:
    queries, rows = queries_of(told), []
    for n in (1, 2, 4):
        orders = [([grid for grid, _, _ in ranked(told, task, i, n)], answer) for task, i, answer in queries]
        covered = sum(answer in grids for grids, answer in orders)
        rows.append([f"{n} views", *map(str, (covered, sum(a in grids[:2] for grids, a in orders), len(queries)))])
    found = tables(page, "#curves")["Test outputs"]
    assert found == [["", "covered (blue)", "among the first two (green)", "of"], *rows]
    assert rows[-1][1] != rows[-1][2]


def planned(run: Path) -> list[dict[str, Any]]:
    """Of plan.json: {stage, worker, seconds, predicted, lost}."""
    return [
        {
            "stage": event["job"]["stage"],
            "worker": event["worker"],
            "seconds": event["outcome"]["seconds"] if event["event"] == "done" else event["seconds"],
            "predicted": event["job"]["predicted_seconds"],
            "lost": event["event"] == "lost",
        }
        for event in read(run, "plan.json")["events"]
    ]


def loads(run: Path) -> list[dict[str, Any]]:
    """What events.jsonl says of loading, and of the joint stage."""
    found = [{"stage": "joint", "worker": None, "seconds": 0.29, "predicted": 30.0, "lost": False}]
    begun: dict[int, float] = {}
    for event in lines_of(run / "events.jsonl"):
        if event["event"] == "start":
            begun[event["worker"]] = event["at_seconds"]
        if event["event"] == "ready":
            seconds = event["at_seconds"] - begun[event["worker"]]
            found.append({"stage": "load", "worker": event["worker"], "seconds": seconds, "lost": False})
    return found


def row(label: str, rows: Rows) -> list[Any]:
    has_plan = any("predicted" in each for each in rows)
    plan = sum(each.get("predicted", 0.0) for each in rows)
    seconds, lost = sum(each["seconds"] for each in rows), sum(each["lost"] for each in rows)
    return [label, str(len(rows)), Close(seconds), Close(plan) if has_plan else "-", str(lost)]


def test_where_the_time_went(page: webdriver.Chrome, told: Path) -> None:
    rows, shown = [*loads(told), *planned(told)], tables(page, "#time")
    names = ["joint", "load", "quick", "answer", "score"]

    def of(name: str, chosen: Callable[[Mapping[str, Any]], bool]) -> list[Any]:
        return row(name, [each for each in rows if chosen(each)])

    by_stage = [of(name, lambda each, name=name: each["stage"] == name) for name in names]  # type: ignore[misc]
    assert shown["By stage"] == [["", "stages", "seconds", "planned", "lost"], *by_stage]
    assert shown["By worker"][1:] == [of("worker 0", lambda each: each["worker"] == 0)]
    spent = [sum(each["seconds"] for each in rows if each["stage"] == name) for name in names]
    none = max(0.0, round(read(told, "report.json")["seconds"], 1) - sum(spent))
    head, crossed = shown["Worker by worker and stage by stage, seconds"]
    assert head == ["", *names, "none"]
    assert crossed == ["worker 0", *map(Close, spent), Close(none)]


def test_how_the_plan_ended_and_why_workers_were_lost(page: webdriver.Chrome, told: Path) -> None:
    ended = Counter(each["ended"] or "not started" for each in read(told, "report.json")["reports"])
    assert dict(tables(page, "#time")["How the plan ended, tasks"][1:]) == {why: str(n) for why, n in ended.items()}
    lost = sum(each["lost"] for each in planned(told))
    assert tables(page, "#time")["Why workers were lost"][1:] == [[DyingWorker.reason, str(lost)]] and lost > 0


def opened(page: webdriver.Chrome, task_id: str) -> str:
    """Selects the card of a task; all that opens is open."""
    selector = f"article[data-task={task_id}]"
    page.find_element(By.ID, "find").send_keys(task_id)
    page.find_element(By.TAG_NAME, "h1").click()
    page.find_element(By.TAG_NAME, "body").send_keys("j")
    for summary in page.find_elements(By.CSS_SELECTOR, f"{selector} summary"):
        summary.click()
    wait_until(lambda: not page.find_elements(By.CSS_SELECTOR, f"{selector} details > div:empty"))
    return selector


def test_the_captions_of_a_task(page: webdriver.Chrome, told: Path) -> None:
    card = opened(page, "t03")
    captions = [each.text for each in page.find_elements(By.CSS_SELECTOR, f"{card} figcaption")]
    expected = ["input 1", "output 1", "input 2", "output 2"]
    for query, answer in ((0, [[1]]), (1, [[1]])):
        order = ranked(told, "t03", query)
        expected += [f"test input {query + 1}", "answer"]
        attempts = read(told, "submission.json")["t03"][query].values()
        for k, attempt in enumerate(attempts):
            by = "model" if attempt in [grid for grid, _, _ in order] else "guess"
            expected.append(f"attempt {k + 1} by {by}, {100.0 * (attempt == answer):.1f}% of cells")
        won = comparisons(told, query)
        for k, (grid, group, nll) in enumerate(order):
            against = [
                f"against {j + 1}. won {won[str(grid), str(other)]}, lost {won[str(other), str(grid)]}, "
                for j, (other, _, _) in enumerate(order)
                if won[str(grid), str(other)] + won[str(other), str(grid)]
            ]
            strength = f"strength {strength_of(page, query, k):.2f}, " if against else ""
            expected.append(
                f"{k + 1}. {len(group)} vote{'s' if len(group) > 1 else ''}, "
                f"views {' '.join(str(line['view']) for line in group)}, "
                f"log P {max(line['log_prob'] for line in group):.2f}, NLL {nll:.2f}, {strength}{''.join(against)}"
                f"{100.0 * (grid == answer):.1f}% of cells"
            )
        assert sum(won.values()) > 0
    assert captions == expected
    said = page.find_element(By.CSS_SELECTOR, card).text
    (told_of,) = [each for each in read(told, "report.json")["reports"] if each["task_id"] == "t03"]
    assert told_of["verdict"] in said and told_of["ended"] in said and "4 views; no grid: no_end 1" in said


def comparisons(run: Path, query: int) -> Counter[tuple[str, str]]:
    """(winner, loser) of every comparison of t03."""
    won: Counter[tuple[str, str]] = Counter()
    for line in lines_of(run / "scores" / "t03.jsonl"):
        for other, margin in line.get("duels", ()) if line["query"] == query else ():
            pair = str(line["grid"]), str(other)
            won[pair if margin > 0 else pair[::-1]] += margin != 0
    return won


def strength_of(page: webdriver.Chrome, query: int, place: int) -> float:
    """As the page's data have it; that these are Bradley-Terry strengths is tested where they are made."""
    words = "return DATA.runs[0].tasks.t03.queries[arguments[0]].candidates[arguments[1]].strength"
    return float(page.execute_script(words, query, place))


def test_the_plan_and_the_views_of_a_task(page: webdriver.Chrome, told: Path) -> None:
    shown = tables(page, opened(page, "t03"))
    events = [event for event in read(told, "plan.json")["events"] if event["job"]["task_id"] == "t03"]
    expected = []
    for event in events:
        job, seconds = event["job"], event.get("seconds") or event["outcome"]["seconds"]
        label = f"{job['stage']}, gentler by {job['level']}" if job["level"] else job["stage"]
        views = f"{job['views'][0]} to {job['views'][1] - 1}"
        numbers = [Close(job["predicted_seconds"]), Close(job["max_seconds"]), Close(seconds)]
        begin = Close(event["at_s"] - seconds)
        expected.append([label, begin, str(event["worker"]), views, *numbers, event.get("reason", "done")])
    assert shown["Stages of the task"][1:] == expected and len(expected) > 1
    rows = shown["How every view shows the task, and what it gave"][1:]
    assert [each[0] for each in rows] == ["view 0", "view 1", "view 2", "view 3"]
    assert rows[0][1:4] == ["as given"] * 3
    found = {line["view"]: line["augmentation"] for line in found_for(told, "t03", 0)}
    assert [each[1] for each in rows] == ["as given", "quarter turn left", "half turn", "quarter turn right"]
    assert [found[view]["symmetry"] for view in range(4)] == [0, 1, 2, 3]
    assert [each[3] for each in rows[1:]] == [" ".join(str(i + 1) for i in found[v]["order"]) for v in (1, 2, 3)]
    for view in (1, 2, 3):
        assert len(rows[view][2].split()) == sum(old != new for old, new in enumerate(found[view]["colours"]))
    for query in (0, 1):
        gave = {line["view"]: k + 1 for k, (_, group, _) in enumerate(ranked(told, "t03", query)) for line in group}
        assert [each[4 + query] for each in rows] == [str(gave.get(view, "no_end")) for view in range(4)]


def test_a_caption_names_its_views_in_words(page: webdriver.Chrome, told: Path) -> None:
    card = opened(page, "t03")
    titles = [each.get_attribute("title") or "" for each in page.find_elements(By.CSS_SELECTOR, f"{card} figcaption")]
    named = "\n".join(titles)
    assert "view 0: as given; colours as given; train pairs as given" in named
    assert "view 1: quarter turn left; colours " in named and "view 3" not in named
