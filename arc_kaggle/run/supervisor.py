"""The supervisor: owns submission.json and the deadline, never imports torch, and survives its workers."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any

from arc_kaggle.answering.candidates import Prediction
from arc_kaggle.answering.submission import RuleGrids, SubmissionFile, rule_grids, vote_task, without_rules
from arc_kaggle.config.solve import SolveConfig
from arc_kaggle.run.joint import JointStage
from arc_kaggle.run.journal import Journal
from arc_kaggle.run.messages import Done, Failed, Order, PredictionFound, Ready, ScoreFound
from arc_kaggle.run.plan import PLAN_FILE, agreement, is_last, make_plan, record_of
from arc_kaggle.run.planning.jobs import Job, Outcome
from arc_kaggle.run.planning.planner import Planner
from arc_kaggle.run.pool import TICK_SECONDS, Crew, Ended, Heard, Lost, Pool, Slot
from arc_kaggle.run.progress import Watch
from arc_kaggle.run.records import StageRun
from arc_kaggle.run.report import SolveResult, result_of
from arc_kaggle.system.deadline import Deadline
from arc_kaggle.system.files import strict_json
from arc_kaggle.system.paths import remove_below
from arc_kaggle.tasks.task import Query, Task

CLOSING_SECONDS = 5.0
"""Seconds before the deadline at which workers are told to end; at half of it they are killed."""
CLOSING_SECONDS_A_TASK = 1e-3
"""So much more for each task, for its vote and its report."""
SLICE_SECONDS = 0.05
"""Most seconds of trying simple rules before workers are listened to again."""
WRITE_SECONDS, MOST_WRITES = 1.0, 10.0
"""Least time between two writes of the submission: in seconds, and in times of what the last one took."""


class Supervisor:
    """Hands the jobs of a plan to workers, keeps what they find, and answers for whatever becomes of them."""

    def __init__(
        self,
        config: SolveConfig,
        tasks: Sequence[Task],
        deadline: Deadline,
        gather: Callable[[Mapping[str, Any]], Crew],
        engine: str = "",
        loading_seconds: float = 0.0,
    ) -> None:
        """`gather` finds out about the workers of a model, which on a cluster takes a while: the first submission comes
        before.

        `loading_seconds` are what reading the tasks took; on a slow machine their report takes as long.
        """
        self.config, self.tasks, self.deadline, self.engine = config, tasks, deadline, engine
        self.by_id = {task.id: task for task in tasks}
        self.submission = SubmissionFile(config.out / "submission.json", tasks)
        self.journal = Journal(config, tasks, self.submission.write)
        self.through = False
        self.late = ""
        """Why there was no time for anything; empty where there was."""
        self.losses: Counter[str] = Counter()
        """Why workers were lost, and how often."""
        self.rules: dict[str, list[RuleGrids]] = {}
        """What simple rules say, of each query of the tasks for which there was time to try them."""
        self.untried = deque(tasks)
        """Tasks for which there was none yet."""
        self.closing_seconds = CLOSING_SECONDS + len(tasks) * CLOSING_SECONDS_A_TASK + loading_seconds
        self._write_at = -inf
        try:
            self.gather = gather
            self._begin(gather({}))
        except BaseException:
            self.journal.close()
            raise

    def _begin(self, crew: Crew) -> None:
        """Take up what an earlier run left, and make ready what hands out the rest."""
        config, at_s, clock = self.config, self.deadline.at_s, self.deadline.clock
        stages, self.scratch = self.journal.stages, crew.scratch
        self.watch = Watch(config.out, len(self.tasks), clock, max((s.at_seconds for s in stages), default=0.0))
        self.plan = make_plan(config, self.tasks, crew.n_workers, Deadline(at_s - self.closing_seconds, clock))
        self.plan.recall(record_of(stages))
        self.pool = Pool(crew, Deadline(at_s - self.closing_seconds / 2, clock), config.max_tries)
        self.tuned = {stage.job.task_id: stage.tune for stage in stages if stage.tune}
        self.forget: dict[int, list[str]] = {slot.number: [] for slot in self.pool.slots}
        self.watch.began(crew.n_workers, stages, self.journal.damaged)
        for task in self.tasks:
            if self.journal.predictions[task.id]:
                self._vote(task)
        self._write_submission()

    def run(self) -> None:
        """Until nothing is left that fits the time. Raises WorkerError where no worker can be started."""
        try:
            if self.config.joint_minutes and not self._is_through:
                self._train_jointly()
            while self._hand_out():
                for slot, message in self.pool.poll(0.0 if self.untried else TICK_SECONDS):
                    self._take_in(slot, message)
                self._try_rules(self.deadline.earlier(SLICE_SECONDS))
                if self.deadline.clock() >= self._write_at:
                    self._write_submission()
                self.watch.status(self.pool.slots, self.deadline.seconds_left, self.journal.trouble)
        except KeyboardInterrupt:
            self.untried.clear()  # whoever interrupts does not want to wait
            raise

    @property
    def _is_through(self) -> bool:
        """Whether an earlier run has done all that there is to do."""
        ended = (stage.job for stage in self.journal.stages if not stage.lost)
        return {job.task_id for job in ended if is_last(job, self.config)} == {*self.by_id}

    def _train_jointly(self) -> None:
        """The joint stage, in its share of the time; without a result the base answers."""
        deadline = Deadline(self.deadline.at_s - self.closing_seconds, self.deadline.clock)
        stage = JointStage(self.config, self.scratch / "joint", deadline)
        self.watch.event("joint", minutes=self.config.joint_minutes)
        try:
            found = stage.run(self.tasks, self._wait)
        except OSError as error:
            self.journal.complain(error)
            found = None
        if found:
            self.pool.start = self.gather(stage.in_place_of_base(found)).start
        self.watch.event("joint_done", model=str(found or self.config.model), trained=found is not None)

    def _wait(self, seconds: float) -> None:
        if self.untried:
            self._try_rules(self.deadline.earlier(seconds))
        else:
            time.sleep(seconds)
        self.watch.status(self.pool.slots, self.deadline.seconds_left, self.journal.trouble)

    def _hand_out(self) -> bool:
        """A job for every worker that has none; whether there is anything to wait for."""
        if self.deadline.seconds_left <= self.closing_seconds:
            return bool(self.pool.busy) and not self.pool.deadline.passed
        for slot in self.pool.idle:
            if job := self.plan.next_job(slot.number):
                self._send(slot, job)
        vacant = self.pool.vacant
        coming = vacant or self.pool.loading
        is_wanted = coming is not None and self._has_job(coming)
        if vacant and is_wanted:
            self._write_submission()
            self.watch.event("start", worker=vacant.number)
            self.pool.fill(vacant)
        self.through = not (self.pool.busy or is_wanted)
        return not self.through

    def _has_job(self, slot: Slot) -> bool:
        """Whether there would be a job for a worker that is not there yet."""
        job = self.plan.next_job(slot.number)
        if job:
            self.plan.give_back(slot.number, job)
        return job is not None

    def _try_rules(self, until: Deadline) -> None:
        """Use time that nobody else wants: what simple rules say of tasks that they were not tried on yet."""
        while self.untried and not until.passed:
            task = self.untried.popleft()
            self.rules[task.id] = [rule_grids(query) for query in task.queries]
            self._vote(task)

    def _send(self, slot: Slot, job: Job) -> None:
        """Solutions stay here."""
        report = self.tuned.get(job.task_id)
        order = Order(
            job,
            self.by_id[job.task_id].without_solution(),
            tuned=report is not None and report.tuned,
            predictions=tuple(self._known(job)),
            forget=tuple(self.forget[slot.number]),
            seconds_left=self.deadline.seconds_left - self.closing_seconds,
        )
        self.forget[slot.number] = []
        self.watch.event("stage", worker=slot.number, **job.to_json())
        self.pool.send(slot, job, order, job.max_seconds + self.config.grace_seconds)

    def _known(self, job: Job) -> list[Prediction]:
        """What a worker is told of its task: all candidates to score them, those of earlier views as drafts."""
        known = self.journal.predictions_of(job.task_id)
        if job.stage == "answer" and self.config.generate.n_pilots:
            return [prediction for prediction in known if prediction.view < job.views[0]]
        return known if job.stage == "score" else []

    def _take_in(self, slot: Slot, message: Heard) -> None:
        """What a worker says. Evidence is kept as it comes; what a lost job found is evidence, too."""
        match message:
            case PredictionFound():
                self.journal.keep_prediction(message.value)
            case ScoreFound():
                self.journal.keep_score(message.value)
            case Ready():
                self.watch.event("ready", worker=slot.number, seconds=message.seconds, ktoken=message.ktoken_seconds)
                self.plan.probed(message.ktoken_seconds)
            case Ended():
                self._end(slot, message)

    def _end(self, slot: Slot, ended: Ended) -> None:
        """A stage is through, or lost; or a worker that had nothing to do is gone."""
        job, how = ended.job, ended.how
        lost = "" if isinstance(how, Done) else how.reason
        if isinstance(how, Lost):
            self.watch.event("worker_lost", worker=slot.number, reason=lost)
            self.losses[lost] += 1
        if job is None:
            self.plan.gone(slot.number)
            return
        run = self._stage_run(slot, job, how)
        self.journal.end_stage(run)
        self.watch.stage(run)
        if lost:
            self.plan.lost(slot.number, job, run.outcome.seconds, lost)
        else:
            self.plan.done(slot.number, job, run.outcome)
        if run.tune:
            self.tuned[job.task_id] = run.tune
        if not lost and is_last(job, self.config):
            for task_ids in self.forget.values():
                task_ids.append(job.task_id)
        self._vote(self.by_id[job.task_id])

    def _stage_run(self, slot: Slot, job: Job, how: Done | Failed | Lost) -> StageRun:
        n_lines = self.journal.n_lines(job.task_id, job.stage)
        if not isinstance(how, Done):
            outcome = Outcome(how.seconds)
            return StageRun(job, slot.number, self.watch.seconds, outcome, lost=how.reason, n_lines=n_lines)
        views = job.stage in ("quick", "answer")
        shares = agreement(self.by_id[job.task_id], self.journal.predictions_of(job.task_id)) if views else ()
        return StageRun(
            job,
            slot.number,
            self.watch.seconds,
            Outcome(how.seconds, *shares),
            tune=how.tune,
            dropped_pairs=how.dropped_pairs,
            peak_memory_mib=how.peak_memory_mib,
            note=how.note,
            n_lines=n_lines,
        )

    def _vote(self, task: Task) -> None:
        """Turn what is known of a task into its attempts; the file is written when it is time for it."""
        evidence = self.journal.predictions_of(task.id), self.journal.scores_of(task.id)
        self.submission.put(task.id, vote_task(task, *evidence, self.config.select_by, self._rules_of))

    def _rules_of(self, query: Query) -> RuleGrids:
        known = self.rules.get(query.task.id)
        return known[query.index] if known else without_rules(query)

    def _write_submission(self) -> None:
        """Write the submission where it changed; the next time is the later, the longer this one takes."""
        if not self.submission.changed:
            return
        started = self.deadline.clock()
        try:
            self.submission.write()
        except OSError as error:  # what is there stays there, valid
            self.journal.complain(error)
        now = self.deadline.clock()
        self._write_at = now + max(WRITE_SECONDS, MOST_WRITES * (now - started))

    def finish(self) -> SolveResult:
        """Vote on all that is there, write report.json and give the result; callable at any moment."""
        self.watch.close()
        unfinished = {slot.job.task_id: slot.job.stage for slot in self.pool.busy if slot.job}
        for slot, message in self.pool.close():
            self._take_in(slot, message)
        for task_id in unfinished:
            self._vote(self.by_id[task_id])
        self._write_submission()
        self._try_rules(Deadline(self.deadline.at_s - self.closing_seconds / 4, self.deadline.clock))
        ended = {each.task_id: each.ended for each in self.plan.summary()} if isinstance(self.plan, Planner) else {}
        attempts, seconds, by = self.submission.attempts, self.watch.seconds, self.config.select_by
        result = result_of(self.tasks, self.journal, attempts, unfinished, ended, seconds, by)
        trouble = "; ".join(filter(None, (self.late, result.trouble)))
        result = replace(result, engine=self.engine, losses=dict(self.losses), trouble=trouble)
        plan = partial(strict_json, record_of(self.journal.stages))
        self.journal.finish(self.submission.write, {"report.json": result.to_json, PLAN_FILE: plan})
        self.watch.event("end", seconds=result.seconds, trouble=self.journal.trouble)
        self.watch.status(self.pool.slots, self.deadline.seconds_left, self.journal.trouble)
        if self.through:
            with suppress(OSError):
                remove_below(self.scratch.parent, self.scratch)
        return result
