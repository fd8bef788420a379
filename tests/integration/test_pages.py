"""The pages over real HTTP: who gets in, what they show, and that nothing from outside is taken for markup."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging

import aiohttp
import pytest

from minireduce.auth import tokens
from minireduce.auth.policy import MASTER_ROUTES, Authenticator
from minireduce.core.spec import OutputKind
from minireduce.core.task_data import TaskError
from minireduce.core.views import (
    AttemptError,
    AttemptView,
    ClusterView,
    JobState,
    JobView,
    PrintedPage,
    PrintedPiece,
    TaskCounts,
    TaskView,
    WorkerView,
)
from minireduce.errors import NotFound, Unavailable
from minireduce.ids import AttemptId, TaskId, TaskKind
from minireduce.web.app import make_app
from minireduce.web.listen import Pages, listen

HELD = tokens.generate()
TASK = TaskId("job-00000a-1", 0, TaskKind.MAP, 0)
EVIL = "<script>alert('&')</script>\udc80"
DEADLINE_S = 30


def job_view():
    return JobView(
        job="job-00000a-1",
        name=EVIL,
        state=JobState.RUNNING,
        output=OutputKind.TEXT,
        output_path=EVIL,
        submitted_at=1.0,
        elapsed_s=2.0,
        fraction=0.5,
        tasks=(TaskCounts(0, TaskKind.MAP, 4, 2, 1),),
        counters=(("g", EVIL, 3), ("g", "n", 1)),
        errors=(AttemptError(AttemptId(TASK, 0), EVIL, TaskError("raised", EVIL, EVIL)),),
        reason=EVIL,
        waiting_for=EVIL,
    )


class FixedViews:
    error = None

    async def jobs(self):
        return [job_view()]

    async def job(self, job):
        if self.error is not None:
            raise self.error
        if job != "job-00000a-1":
            raise NotFound(f"there is no job {job}")
        return job_view()

    async def tasks(self, job):
        attempt = AttemptView(AttemptId(TASK, 0), EVIL, "failed", 0.5, 1.0, EVIL)
        return [TaskView(TASK, "running", (attempt,)), TaskView(TASK, "pending", ())]

    async def printed(self, job, after=0, task=None):
        said = f"first {EVIL}".encode(errors="surrogateescape")
        pieces = {0: (PrintedPiece(AttemptId(TASK, 0), EVIL, "stdout", 0, said),)}.get(after, ())
        return PrintedPage(pieces, after + len(pieces), 0)

    async def workers(self):
        return [WorkerView('w"1\n' + EVIL, "live", EVIL, EVIL, 2, 1, 100, "h:1", "m", 0.1, EVIL, free_bytes=7)]

    async def cluster(self):
        return ClusterView("00000a", 3, EVIL, 1, 2, 50, ("m",), (f"the mirror {EVIL}",))


class Visit:
    """A running application, and a client that keeps no cookies unless told to."""

    def __init__(self, base, views, session):
        self.base = base
        self.views = views
        self.session = session
        self.host, self.port = base.removeprefix("http://").split(":")

    async def get(self, path, token=HELD.client, **options):
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}
        async with self.session.get(self.base + path, headers=headers, allow_redirects=False, **options) as answer:
            return answer, await answer.read()


def play(scenario):
    async def run():
        views = FixedViews()
        pages = Pages(listen("127.0.0.1", 0), views, Authenticator(HELD, lambda: 1000.0), ["node1"], None)
        pages.start()
        try:
            async with (
                asyncio.timeout(DEADLINE_S),
                aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
            ):
                await scenario(Visit(f"http://127.0.0.1:{pages.port}", views, session))
        finally:
            await pages.stop()

    asyncio.run(run())


NO_HTTP = [
    b"\x16\x03\x01" + b"\x01" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"a\0" * 50_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"\xff" * 5000 + b": a\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("sent", NO_HTTP)
def test_what_is_no_http_is_not_repeated_to_who_sent_it_nor_in_the_log(sent, caplog):
    async def scenario(visit):
        reader, writer = await asyncio.open_connection(visit.host, visit.port)
        writer.write(sent)
        told = await reader.read()
        assert told.startswith(b"HTTP/1.0 400 ")
        assert len(told) < 400
        writer.close()

    with caplog.at_level(logging.DEBUG):
        play(scenario)
    assert 0 < len(caplog.text) < 4000


def every_route():
    app = make_app(FixedViews(), Authenticator(HELD, lambda: 1000.0), [], is_secure=False)
    routes = {(route.method, route.resource.canonical) for route in app.router.routes()}
    return sorted((method, path.format(job="job-00000a-1", task=TASK)) for method, path in routes)


OPEN = {"/healthz", "/login"}


def test_every_route_is_shut_without_a_token_and_with_each_wrong_one():
    async def scenario(visit):
        tried = 0
        for method, path in every_route():
            for token in (None, HELD.worker, tokens.generate().client, "nonsense"):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                async with visit.session.request(method, visit.base + path, headers=headers) as answer:
                    shut = answer.status in {401, 403}
                    if path not in OPEN:
                        assert shut, (method, path, token)
                        assert method == "HEAD" or set(await answer.json()) == {"error", "message", "hint"}
                    elif token is None:
                        assert not shut or method == "POST", (method, path)
                tried += 1
        assert tried >= 10 * 4

    play(scenario)


def test_what_has_no_route_is_shut_and_behind_the_door_not_found():
    async def scenario(visit):
        assert (await visit.get("/api/v1/none", token=None))[0].status == 401
        assert (await visit.get("/api/v1/none"))[0].status == 404
        assert (await visit.get("/none"))[0].status == 403

    play(scenario)


def test_every_page_answers_and_no_text_becomes_markup():
    async def scenario(visit):
        for path in ("/", "/jobs/job-00000a-1"):
            answer, body = await visit.get(path)
            assert answer.status == 200
            assert b"<script" not in body
            assert b"&lt;script&gt;" in body
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

    play(scenario)


def test_the_api_gives_ids_as_text_and_counters_by_group():
    async def scenario(visit):
        _, body = await visit.get("/api/v1/jobs/job-00000a-1")
        job = json.loads(body)
        assert (job["job"], job["state"], job["counters"]) == ("job-00000a-1", "running", {"g": {EVIL: 3, "n": 1}})
        assert job["tasks"] == [{"step": 0, "kind": "map", "total": 4, "done": 2, "running": 1}]
        assert job["errors"][0]["attempt"] == "job-00000a-1_s0_m00000_a0"
        assert json.loads((await visit.get("/api/v1/jobs"))[1])["jobs"] == [job]
        tasks = json.loads((await visit.get("/api/v1/jobs/job-00000a-1/tasks"))[1])["tasks"]
        assert [task["task"] for task in tasks] == ["job-00000a-1_s0_m00000"] * 2
        assert json.loads((await visit.get("/api/v1/workers"))[1])["workers"][0]["slots_used"] == 1
        assert json.loads((await visit.get("/api/v1/cluster"))[1])["epoch"] == 3

    play(scenario)


def test_errors_of_views_have_their_status():
    async def scenario(visit):
        answer, body = await visit.get("/api/v1/jobs/job-00000a-2")
        assert (answer.status, json.loads(body)["error"]) == (404, "NotFound")
        visit.views.error = Unavailable("the master is ending")
        assert (await visit.get("/api/v1/jobs/job-00000a-1"))[0].status == 503
        visit.views.error = ZeroDivisionError("secret")
        answer, body = await visit.get("/api/v1/jobs/job-00000a-1")
        assert answer.status == 500
        assert b"secret" not in body

    play(scenario)


def test_metrics_are_in_the_text_format_with_labels_escaped():
    async def scenario(visit):
        answer, body = await visit.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = body.decode().splitlines()
        assert 'minireduce_jobs{state="running"} 1' in lines
        assert 'minireduce_tasks_done{kind="map"} 2' in lines
        assert "minireduce_slots_used 1" in lines
        assert "minireduce_problems 1" in lines
        assert [line for line in lines if line.startswith('minireduce_worker_free_bytes{worker="w\\"1\\n<script>')]
        for line in lines:
            assert line.startswith(("# HELP ", "# TYPE ", "minireduce_"))

    play(scenario)


def test_status_is_readable_as_plain_text():
    async def scenario(visit):
        answer, body = await visit.get("/status.txt")
        assert answer.content_type == "text/plain"
        assert b"workers 1 live of 1, slots 2" in body
        assert b"\nPROBLEM: the mirror " in body
        assert [line.split()[:4] for line in body.decode().splitlines() if line.startswith("job-")] == [
            ["job-00000a-1", "running", "50%", "2.0"]
        ]

    play(scenario)


def test_a_name_that_is_not_ours_is_refused_even_with_a_token():
    async def scenario(visit):
        for host, status in (("evil.example", 421), ("node1:80", 200), ("localhost", 200), ("[::1]:80", 200)):
            answer, _ = await visit.get("/healthz", headers={"Host": host})
            assert answer.status == status, host

    play(scenario)


def test_a_browser_is_led_to_the_login_and_its_cookie_opens_the_pages():
    async def scenario(visit):
        answer, _ = await visit.get("/", token=None, headers={"Accept": "text/html"})
        assert (answer.status, answer.headers["Location"]) == (303, "/login")
        answer, body = await visit.get("/login", token=None)
        assert b'type="password"' in body
        async with visit.session.post(f"{visit.base}/login", data={"token": "wrong"}) as refused:
            assert refused.status == 403
            assert "Set-Cookie" not in refused.headers
        login = {"token": f" {HELD.client}\n"}
        async with visit.session.post(f"{visit.base}/login", data=login, allow_redirects=False) as welcomed:
            assert (welcomed.status, welcomed.headers["Location"]) == (303, "/")
            cookie = welcomed.cookies["minireduce"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert HELD.client not in cookie.value
        answer, _ = await visit.get("/", token=None, headers={"Cookie": f"minireduce={cookie.value}"})
        assert answer.status == 200
        answer, _ = await visit.get("/", token=None, headers={"Cookie": f"minireduce={cookie.value}x"})
        assert answer.status == 401

    play(scenario)


def test_every_row_of_the_table_of_doors_has_a_route():
    routes = {f"{method} {path}" for method, path in every_route()}
    unused = [
        row
        for row in MASTER_ROUTES
        if row not in routes and not (row.endswith("*") and any(route.startswith(row[:-1]) for route in routes))
    ]
    assert not unused


def test_the_application_is_loaded_when_somebody_comes():
    async def scenario():
        pages = Pages(listen("127.0.0.1", 0), FixedViews(), Authenticator(HELD, lambda: 1000.0), [], None)
        pages.start()
        assert pages._serving is None
        with contextlib.closing((await asyncio.open_connection("127.0.0.1", pages.port))[1]):
            asked = f"http://127.0.0.1:{pages.port}/healthz"
            async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as session, session.get(asked) as answer:
                assert await answer.text() == "ok\n"
        await pages.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("is_visited", [False, True])
def test_the_port_is_free_again_after_the_end(is_visited):
    async def scenario():
        pages = Pages(listen("127.0.0.1", 0), FixedViews(), Authenticator(HELD, lambda: 1000.0), [], None)
        pages.start()
        port = pages.port
        if is_visited:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz"):
                pass
        await pages.stop()
        listen("127.0.0.1", port).close()

    asyncio.run(scenario())


def test_the_page_of_a_task_shows_what_its_attempts_printed():
    async def scenario(visit):
        answer, body = await visit.get(f"/jobs/job-00000a-1/tasks/{TASK}")
        assert answer.status == 200
        assert b"first &lt;script&gt;alert(&#x27;&amp;&#x27;)" in body
        assert b"<script" not in body
        answer, _ = await visit.get("/jobs/job-00000a-1/tasks/nonsense")
        assert answer.status == 400
        _, body = await visit.get("/jobs/job-00000a-1")
        assert f'href="/jobs/job-00000a-1/tasks/{TASK}"'.encode() in body

    play(scenario)
