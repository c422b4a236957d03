"""An app with routes of health and administration over a pool of fake servers."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import falcon
import falcon.testing

from gateway.catalogue.query import Catalogue, Query
from gateway.execution.call import Caller
from gateway.execution.judging import Joined
from gateway.execution.plans import Plans
from gateway.node.reloads import Reloads
from gateway.node.snapshots import LearningStatus, Snapshots
from gateway.pool.pool import Pool
from gateway.rotation.endpoint import Role
from gateway.rotation.moves import Probed
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.waiting import ThreadWaits
from gateway.web.admin import EndpointAdminResource, LearningAdminResource
from gateway.web.authentication import OPERATORS
from gateway.web.browsers import Browsers
from gateway.web.catalogue import CatalogueResource
from gateway.web.document import DocumentResource
from gateway.web.failures import Failures
from gateway.web.health import HealthResource, Membership, membership
from gateway.web.messages import Response
from gateway.web.middleware import RequestIdentity
from gateway.web.readiness import Readiness
from gateway.web.routes import Routes
from tests.pool.fake import FakeServer, Rig

if TYPE_CHECKING:
    from gateway.events import Event


class HealthRig:
    """A primary and two replicas; ``read`` falls back to the primary, ``local`` is one replica's alone."""

    def __init__(self, directory: Path | None = None, *, queries: Sequence[Query] = ()) -> None:
        servers = [FakeServer("primary", Role.PRIMARY), FakeServer("replica1"), FakeServer("replica2")]
        self.rig = Rig(*servers, probed=False)
        self.rig.rotation = self.rotation = Rotation(
            views=LocalViews(self.rig.servers), max_lags={"read": 10.0, "local": 10.0}
        )
        groups = [self.rig.group("read"), self.rig.group("write", write=True, size=2)]
        self.is_draining = False
        self.late: list[int] = []
        self.deadlines: list[float] = []
        self.seen: list[Event] = []
        """What was observed."""
        self.pool = Pool(rotation=self.rotation, groups=groups)
        catalogue = Catalogue({query.name: query for query in queries}, "hash")
        self.plans = Plans(catalogue)
        self.events: list[Event] = []
        browsers = Browsers(allowed_hosts=[falcon.testing.helpers.DEFAULT_HOST])
        identity = RequestIdentity(browsers, everybody=Caller(roles=OPERATORS))
        self.snapshots = Snapshots(
            directory=directory,
            pool=self.pool,
            catalogue=catalogue,
            plans=self.plans,
            learning=LearningStatus,
            in_flight=identity.in_flight,
            is_draining=lambda: self.is_draining,
            observe=self.events.append,
        )
        self.app = app = falcon.App[Any, Any](middleware=[identity], router=Routes(), response_type=Response)
        Failures(verbose=False, observe=self.seen.append, failed=lambda *_: None).register(app)
        readiness = Readiness(
            catalogue=catalogue, plans=self.plans, pool=self.pool, is_draining=lambda: self.is_draining
        )
        self.health = health = HealthResource(
            catalogue=catalogue,
            pool=self.pool,
            sizes={"read": 4, "write": 2},
            closing=lambda _: 0,
            snapshots=self.snapshots,
            readiness=readiness,
            reloads=Reloads(directory, master=0),
        )
        admin = EndpointAdminResource(
            rotation=self.rotation,
            snapshots=self.snapshots,
            membership=lambda view: membership(view, self.pool),
            waits=ThreadWaits(),
            observe=self.seen.append,
            longest_wait=30.0,
        )
        learning = LearningAdminResource(learn_now=self.learn_now, plans=self.plans, longest_wait=30.0)
        described = CatalogueResource(
            catalogue=catalogue,
            plans=self.plans,
            verbose=False,
            joins=lambda _: Joined(joins=False, why="this is a test"),
        )
        document = DocumentResource(
            catalogue=catalogue, plans=self.plans, big_as_text=False, knows_callers=False, turns=lambda: None
        )
        app.add_route("/openapi.json", document)
        app.add_route("/admin/learn", learning)
        app.add_route("/queries", described)
        app.add_route("/queries/{name}", described, suffix="one")
        app.add_route("/health", health)
        app.add_route("/health/ready", health, suffix="ready")
        app.add_route("/admin/endpoints/{name}/drain", admin, suffix="drain")
        app.add_route("/admin/endpoints/{name}/resume", admin, suffix="resume")
        self.client = falcon.testing.TestClient(app)

    def learn_now(self, deadline: float) -> list[int]:
        """In the place of a learner: note until when it may take, and return the pids of workers that are late."""
        self.deadlines.append(deadline)
        return self.late

    def probe(self, name: str, *, lag: float | None = 0.0, timeline: int = 1) -> None:
        """A good look, with seconds of lag (None: not known)."""
        role = self.rig.servers[name].role
        lag_ms = None if role is Role.PRIMARY or lag is None else lag * 1000
        self.rotation.apply(name, Probed(role=role, ping_ms=0.3, lag_ms=lag_ms, timeline=timeline, streaming=True))

    def probe_all(self) -> None:
        for name in self.rig.servers:
            self.probe(name)

    def membership(self, name: str) -> Membership:
        return membership(self.rotation.view(name), self.pool)

    def reasons(self, **asked: Any) -> list[str]:
        """Why it is not ready; nothing: it is."""
        answer = self.client.simulate_get("/health/ready", params=asked)
        reasons: list[str] = answer.json["reasons"]
        assert (answer.status_code, answer.json["status"]) == ((503, "not_ready") if reasons else (200, "ready"))
        return reasons
