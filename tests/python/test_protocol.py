"""Whole jobs through a client written from the proto alone."""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from conftest import Server
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from protocol import wire
from protocol.client import StreamTrainer, Trainer
from protocol.rules import lr_line
from protocol.wire import Api, Refused, message, name, number

STEPS = 900

PLAIN = {"total_steps": 120, "fallback_lr": 0.1}
SEARCH = {"total_steps": STEPS, "fallback_lr": 0.05, "lr_min": 1e-4, "lr_max": 10.0}
WAVE = message("LrPiece", steps=90, shape="SHAPE_COSINE", start=0.1, end=0.02, index=10, of=100)
LEVEL = message("LrPiece", steps=300, shape="SHAPE_CONSTANT", start=0.02, end=0.02, of=300)

SPECS: dict[str, dict[str, Any]] = {
    "scan": {**SEARCH, "scan": message("ScanPolicy")},
    "staged": {**SEARCH, "staged": message("StagedPolicy")},
    "paper": {**SEARCH, "lr_max": 1.0, "paper": message("PaperPolicy", tau=100, tau_max=200, candidates=4)},
    "constant": {**PLAIN, "constant": message("ConstantPolicy")},
    "cosine": {**PLAIN, "cosine": message("CosinePolicy", warmup_steps=10)},
    "wsd": {**PLAIN, "wsd": message("WsdPolicy")},
    "step": {**PLAIN, "step": message("StepPolicy")},
    "one_cycle": {**PLAIN, "one_cycle": message("OneCyclePolicy")},
    "clr": {**PLAIN, "clr": message("ClrPolicy")},
    "sgdr": {**PLAIN, "sgdr": message("SgdrPolicy")},
    "replay": {**PLAIN, "replay": message("ReplayPolicy", pieces=[WAVE, LEVEL])},
}


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    opened = Api(server.address)
    yield opened
    opened.close()


def create(api: Api, job: str, spec: str = "scan", **changes: Any) -> Any:
    return api.CreateJob(name=job, spec=message("JobSpec", **{**SPECS[spec], **changes})).job


def refused(call: Any, **fields: Any) -> Refused:
    with pytest.raises(grpc.RpcError) as error:
        call(**fields)
    return Refused(error.value)


def exported(api: Api, job: str) -> list[float]:
    """The LR of every step of the exported schedule, read part by part."""
    lrs: list[float] = []
    start = 0
    while True:
        answer = api.ExportSchedule(job=job, start_step=start)
        lrs += lr_line(answer.schedule.pieces)
        if not answer.HasField("next_step"):
            assert len(lrs) == answer.schedule.steps
            return lrs
        start = answer.next_step


def test_every_policy_has_a_spec_here() -> None:
    policies = {field.name for field in message("JobSpec").DESCRIPTOR.oneofs_by_name["policy"].fields}
    assert policies == set(SPECS)


@pytest.mark.parametrize("policy", SPECS)
def test_a_whole_job(api: Api, policy: str) -> None:
    job = create(api, policy, policy)
    assert name("JobState", job.state) == "JOB_STATE_CREATED" and job.policy == policy
    trainer = Trainer(api, policy).run()
    assert name("Done.Reason", trainer.done.reason) == "REASON_FINISHED"
    shown = api.GetJob(name=policy).job
    steps = shown.steps
    assert name("JobState", shown.state) == "JOB_STATE_FINISHED"
    assert steps.committed == len(trainer.kept) and steps.repeated == 0
    assert steps.committed + steps.search + steps.lost == len(trainer.line) == shown.total_steps
    assert exported(api, policy) == pytest.approx(trainer.kept, rel=1e-14)
    assert [commit.lr for commit in shown.commits] and trainer.network.accuracy() > 0.5


def test_stream_and_unary_give_the_same_schedule(api: Api) -> None:
    create(api, "unary"), create(api, "stream")
    unary, stream = Trainer(api, "unary").run(), StreamTrainer(api, "stream").run()
    assert [(step.lr, step.loss) for step in unary.line] == [(step.lr, step.loss) for step in stream.line]
    assert {step.phase for step in unary.line} == {f"PHASE_{p}" for p in ("TRIAL", "WARMUP", "STABLE", "COOLDOWN")}


def by_validation() -> Any:
    objective = number("Objective", "OBJECTIVE_VALIDATION")
    return message("PaperPolicy", tau=100, tau_max=200, candidates=4, objective=objective)


def test_a_search_goes_by_the_validation_loss(api: Api) -> None:
    create(api, "job", "paper", paper=by_validation())
    trainer = Trainer(api, "job", validate=True).run()
    assert name("Done.Reason", trainer.done.reason) == "REASON_FINISHED"
    stages = [stage for stage in api.ListStages(job="job").stages if stage.trials]
    assert stages and all("of the validation loss" in stage.why for stage in stages)
    for trial in (trial for stage in stages for trial in stage.trials):
        assert [v.offset for v in trial.validations][-1] == trial.steps
    assert api.GetJob(name="job").job.validation_loss == pytest.approx(trainer.network.validation_loss())


def test_an_end_without_its_validations_is_refused(api: Api) -> None:
    create(api, "job", "paper", paper=by_validation())
    trainer = Trainer(api, "job", validate=True)
    run = trainer.directive.run
    losses = [1.0] * sum(piece.steps for piece in run.lr)
    last = message("Validation", offset=run.validate_at[-1], loss=1.0)
    report = message(
        "Report", job="job", session=trainer.session, seq=trainer.directive.seq, train_losses=losses, finished=True
    )
    report.validations.append(last)
    refusal = refused(api.Advance, report=report)
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
    assert f"lack the one at offset {run.validate_at[0]}, which the directive asks for" in refusal.text
    assert api.GetJob(name="job").job.steps.search == 0
    refusal = refused(api.OpenSession, job="job", takeover=True)
    assert "capabilities.validate" in refusal.text


class Mumbling(Trainer):
    """Repeats itself, says things late, and cuts its reports."""

    def send(self, report: Any) -> Any:
        chance = self.__dict__.setdefault("chance", random.Random(5))
        said = self.__dict__.setdefault("said", [])
        half = message("Report")
        half.CopyFrom(report)
        for field in ("finished", "stopped_because"):
            half.ClearField(field)
        del half.train_losses[chance.randrange(len(half.train_losses) + 1) :]
        gap = message("Report")
        gap.CopyFrom(half)
        gap.first_offset += 10_000
        for extra in (half, half, gap, *chance.sample(said, min(2, len(said)))):
            answer = super().send(extra)
            assert answer.session == self.session
        said.append(report)
        first, again = super().send(report), super().send(report)
        assert first.directive == again.directive and first.received_through <= again.received_through
        return again


def test_repeated_late_and_cut_reports_change_nothing(api: Api) -> None:
    create(api, "clear"), create(api, "mumbled")
    clear, mumbled = Trainer(api, "clear").run(), Mumbling(api, "mumbled").run()
    assert [(step.lr, step.loss) for step in clear.line] == [(step.lr, step.loss) for step in mumbled.line]
    assert exported(api, "clear") == exported(api, "mumbled")


def test_a_watcher_sees_every_state_and_resumes(api: Api) -> None:
    create(api, "toy")
    states, revisions = [], []
    stream = api.WatchJob(name="toy")

    def watch() -> None:
        for response in stream:
            states.append(name("JobState", response.job.state))
            revisions.append(response.job.revision)
            if states[-1] == "JOB_STATE_FINISHED":
                stream.cancel()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    Trainer(api, "toy").run()
    watcher.join(timeout=30)
    assert not watcher.is_alive() and states[-1] == "JOB_STATE_FINISHED"
    assert revisions == sorted(revisions)
    again = api.WatchJob(name="toy", from_revision=revisions[-1] - 1)
    assert next(again).job.revision == revisions[-1]
    again.cancel()


def test_stages_explain_the_choice(api: Api) -> None:
    create(api, "toy", "paper")
    Trainer(api, "toy").run()
    stages, token = [], ""
    while True:
        page = api.ListStages(job="toy", page_size=1, page_token=token)
        assert len(page.stages) <= 1
        stages += page.stages
        token = page.next_page_token
        if not token:
            break
    assert [stage.stage for stage in stages] == list(range(len(stages))) and len(stages) >= 3
    searched = [stage for stage in stages if stage.trials]
    for stage in searched:
        assert stage == api.GetStage(job="toy", stage=stage.stage).stage
        best = min((t for t in stage.trials if t.HasField("score")), key=lambda trial: trial.score)
        assert (stage.lr, stage.forecast) == (best.lr, best.score) and stage.why
        assert stage.curve and all(trial.losses for trial in stage.trials)
        assert name("Trial.Outcome", best.outcome) == "OUTCOME_COMPLETED"
    assert refused(api.GetStage, job="toy", stage=99).reason == "STAGE_NOT_FOUND"


@pytest.mark.parametrize("kind", [Trainer, StreamTrainer])
def test_an_operator_finishes_a_job(api: Api, kind: type[Trainer]) -> None:
    create(api, "toy")

    def finish(trainer: Trainer) -> None:
        if trainer.line[-1].phase == "PHASE_STABLE":
            for _ in range(2):
                api.FinishJob(name="toy", request_id="f1", cooldown_steps=50)

    trainer = kind(api, "toy", on_report=finish).run()
    assert trainer.interrupts and [step.phase for step in trainer.line].count("PHASE_COOLDOWN") == 50
    assert name("JobState", api.GetJob(name="toy").job.state) == "JOB_STATE_FINISHED"
    assert refused(api.FinishJob, name="toy", request_id="f2").reason == "JOB_FINISHED"
    assert exported(api, "toy") == pytest.approx(trainer.kept, rel=1e-14)


@pytest.mark.parametrize("kind", [Trainer, StreamTrainer])
def test_an_operator_updates_a_job(api: Api, kind: type[Trainer]) -> None:
    create(api, "toy")
    answers: list[Any] = []

    def update(trainer: Trainer) -> None:
        if trainer.line[-1].phase == "PHASE_TRIAL" and not answers:
            assert refused(api.UpdateJob, name="toy", request_id="u0", lr_override=0.1).reason == "UPDATE_IN_SEARCH"
        if trainer.line[-1].phase == "PHASE_STABLE":
            for _ in range(2):
                fields = {"lr_override": 0.003, "total_steps": STEPS + 300, "labels": {"team": "a"}}
                answers.append(api.UpdateJob(name="toy", request_id="u1", **fields).job)

    trainer = kind(api, "toy", on_report=update).run()
    job = api.GetJob(name="toy").job
    assert trainer.interrupts and len(trainer.line) == STEPS + 300 == job.total_steps == job.spec.total_steps
    stable = [step.lr for step in trainer.line if step.phase == "PHASE_STABLE"]
    assert stable[0] > stable[-1] == 0.003 == job.commits[-1].lr
    cooldown = [step.lr for step in trainer.line if step.phase == "PHASE_COOLDOWN"]
    assert len(cooldown) == round(0.4 * (STEPS + 300)) and 0.003 > cooldown[0] > cooldown[-1]
    assert dict(job.spec.labels) == {"team": "a"} and answers[0].total_steps == STEPS
    assert refused(api.UpdateJob, name="toy", request_id="u2", total_steps=9999).reason == "JOB_FINISHED"
    assert exported(api, "toy") == pytest.approx(trainer.kept, rel=1e-14)
    assert [job.name for job in api.ListJobs(labels={"team": "a"}).jobs] == ["toy"]
    assert not api.ListJobs(labels={"team": "b"}).jobs and not api.ListJobs(policies=["paper"]).jobs
    api.UpdateJob(name="toy", request_id="u3", remove_labels=["team"])
    assert not api.ListJobs(labels={"team": "a"}).jobs


def test_an_operator_cancels_a_job_in_its_search_and_deletes_it(api: Api) -> None:
    create(api, "toy", total_steps=20_000)

    def cancel(trainer: Trainer) -> None:
        if len(trainer.line) == 120:
            assert refused(api.DeleteJob, name="toy", request_id="d0").reason == "JOB_NOT_ENDED"
            api.CancelJob(name="toy", request_id="c1")

    trainer = Trainer(api, "toy", on_report=cancel)
    start = trainer.network.state()
    trainer.run()
    assert name("Done.Reason", trainer.done.reason) == "REASON_CANCELLED" and len(trainer.line) == 120
    assert all((now == then).all() for now, then in zip(trainer.network.state(), start)), "back where the search began"
    api.DeleteJob(name="toy", request_id="d1", uid=trainer.opened.uid)
    assert refused(api.GetJob, name="toy").code == grpc.StatusCode.NOT_FOUND


def test_a_trainer_resumes_after_a_kill_of_the_server(server: Server, api: Api) -> None:
    create(api, "reference"), create(api, "toy")
    reference = Trainer(api, "reference").run()
    trainer = Trainer(api, "toy")
    while trainer.advance() and trainer.directive.run.phase != number("Phase", "PHASE_STABLE"):
        pass
    server.kill()
    server.start()
    resume = message("Resume", uid=trainer.opened.uid, seq=trainer.directive.seq, offset=0, slots=trainer.slots)
    old = trainer.session
    again = Trainer(api, "toy", trainer.network, {"resume": resume, "takeover": True})
    assert again.session == old + 1 and again.directive.seq == trainer.directive.seq
    again.fresh, again.slots = trainer.fresh, trainer.slots
    line = trainer.line + again.run().line
    assert [(step.lr, step.loss) for step in line] == [(step.lr, step.loss) for step in reference.line]
    trainer.losses = []
    assert refused(api.Advance, report=trainer._report(0)).reason == "FENCED"


def test_jobs_are_listed_a_page_at_a_time(api: Api) -> None:
    for i in range(7):
        create(api, f"job-{i}", "constant")
    api.CancelJob(name="job-3", request_id="c")
    states = [number("JobState", "JOB_STATE_CREATED")]
    names, token, pages = [], "", 0
    while True:
        page = api.ListJobs(page_size=3, page_token=token, states=states)
        names += [job.name for job in page.jobs]
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    assert names == [f"job-{i}" for i in range(7) if i != 3] and pages >= 2


def test_errors_say_what_to_do(api: Api) -> None:
    bad = message("JobSpec", total_steps=0, lr_min=1.0, lr_max=0.5, fallback_lr=-1.0)
    violations = {note.field for note in api.ValidateJobSpec(spec=bad).violations}
    error = refused(api.CreateJob, name="toy", spec=bad)
    assert violations == set(error.fields) == {"spec.total_steps", "spec.lr_max", "spec.fallback_lr"}
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    create(api, "toy")
    assert create(api, "toy").name == "toy"
    differs = refused(api.CreateJob, name="toy", spec=message("JobSpec", **{**SPECS["scan"], "total_steps": 901}))
    assert (differs.reason, differs.metadata["fields"]) == ("JOB_DIFFERS", "total_steps")
    trainer = Trainer(api, "toy")
    active = refused(api.OpenSession, job="toy")
    assert active.reason == "SESSION_ACTIVE" and active.metadata["host"] == "elsewhere"
    unknown = message("Report", job="toy", session=trainer.session, seq=99)
    assert refused(api.Advance, report=unknown).reason == "UNKNOWN_DIRECTIVE"
    stopped = message("StoppedBecause", stop_rule=message("StoppedBecause.StopRule", rule=0, offset=1))
    wrong = message("Report", job="toy", session=trainer.session, seq=trainer.directive.seq, finished=True)
    wrong.train_losses.extend([2.3, 2.2])
    wrong.stopped_because.CopyFrom(stopped)
    assert refused(api.Advance, report=wrong).reason == "STOP_MISMATCH"
    assert refused(api.Advance, report=message("Report", job="other", session=1, seq=1)).reason == "JOB_NOT_FOUND"


def export_frames(data: bytes) -> list[bytes]:
    """The bodies of the frames of an export, read as the proto describes it."""
    assert data.startswith(b"autolrs export 1\n")
    at, bodies = data.index(b"\n") + 1, []
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        assert zlib.crc32(data[:end]) == int.from_bytes(data[end : end + 4], "big")
        bodies.append(data[at + 4 : end])
        at = end + 4
    assert at == len(data)
    return bodies


def test_a_backup_is_an_export_as_the_proto_describes_it(api: Api) -> None:
    create(api, "created"), create(api, "finished", "constant")
    Trainer(api, "finished").run()
    parts = list(api.Backup())
    assert not any(part.damaged for part in parts)
    *bodies, last = export_frames(b"".join(part.data for part in parts))
    jobs = {}
    for body in (body for body in bodies if body[0] == 1):
        at, texts = 1, []
        for _ in range(2):
            begin = at + 4
            at = begin + int.from_bytes(body[at:begin], "big")
            texts.append(body[begin:at].decode())
        jobs[texts[1]] = int.from_bytes(body[at : at + 8], "big")
        assert texts[0] == "default" and body[at + 8 : at + 12] == b"ALRS"
    assert jobs == {name: api.GetJob(name=name).job.revision for name in ("created", "finished")}
    rows = [body for body in bodies if body[0] == 2]
    assert rows and all(body[10:14] == b"ALRS" for body in rows)
    assert last == b"\3" + len(jobs).to_bytes(8, "big") + len(rows).to_bytes(8, "big")


def test_health_and_reflection(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        reflected = ProtoReflectionDescriptorDatabase(channel)
        assert {"autolrs.v1.JobService", "autolrs.v1.TrainerService"} <= set(reflected.get_services())
        service = DescriptorPool(reflected).FindServiceByName("autolrs.v1.JobService")
        assert {method.name for method in service.methods} == {
            method.name for method in wire.methods() if method.containing_service.name == "JobService"
        }


def test_every_method_has_been_called(request: pytest.FixtureRequest) -> None:
    """Runs last in this file."""
    others = [item for item in request.session.items if item.path == request.path and item is not request.node]
    if len(others) < 20:
        pytest.skip("only with the whole file")
    assert wire.answered == {f"/{m.containing_service.full_name}/{m.name}" for m in wire.methods()}
