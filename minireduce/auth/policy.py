"""Who may use which door: every gRPC method and every HTTP route stands in a table here, or stays shut.

Two questions, asked in this order by one interceptor and one middleware. Who is calling? `Authenticator.authenticate`
turns the token of a request into a `Principal`, or refuses it. May they? `authorize` looks the door up in a table.
Some doors open onto many things; there the principal's scope says which (`may_read_job`, `may_read_block`,
`may_write_block`), and whoever serves the thing asks.

A route is written `METHOD PATTERN`, the pattern as the router has it; a row that ends in `*` holds for all that begins
like it and has no row of its own. HEAD counts as GET.

Invariants: a door without a row is refused to everybody; a token that is sent must be good, even where none is needed,
as an expired one should be noticed; a token's kind never follows from where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from minireduce.auth import scopes
from minireduce.auth.scopes import BlockAccess, BlockMode, JobReads, Login
from minireduce.auth.tokens import Tokens, equal
from minireduce.errors import Refused
from minireduce.frozen import dataclass
from minireduce.ids import JobId

LOGIN_S = 12 * 3600


class Kind(StrEnum):
    """What a caller has shown itself to be."""

    NOBODY = "nobody"
    CLIENT = "client"
    WORKER = "worker"
    JOB_READS = "job reads"
    BLOCK_READ = "block read"
    BLOCK_WRITE = "block write"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. Only callers with a scoped token have a scope."""

    kind: Kind
    scope: JobReads | BlockAccess | None = None

    def may_read_job(self, job: JobId) -> bool:
        """Whether the outputs, parts and logs of `job` may be read."""
        return isinstance(self.scope, JobReads) and self.scope.job == job

    def may_read_block(self, block_id: int, generation: int) -> bool:
        """Whether this block may be read. A job may name any stored file as input, so its token opens every block."""
        return isinstance(self.scope, JobReads) or self._has(BlockMode.READ, block_id, generation)

    def may_write_block(self, block_id: int, generation: int) -> bool:
        """Whether this block may be written."""
        return self._has(BlockMode.WRITE, block_id, generation)

    def _has(self, mode: BlockMode, block_id: int, generation: int) -> bool:
        scope = self.scope
        return isinstance(scope, BlockAccess) and (scope.mode, scope.block_id, scope.generation) == (
            mode,
            block_id,
            generation,
        )


NOBODY = Principal(Kind.NOBODY)

Doors = Mapping[str, frozenset[Kind]]

_EVERYBODY = frozenset(Kind)
_CLIENTS = frozenset({Kind.CLIENT})
_WORKERS = frozenset({Kind.WORKER})
_JOB_READERS = frozenset({Kind.JOB_READS})

RPCS: Doors = {
    "/minireduce.Workers/Connect": _WORKERS,
    "/minireduce.Workers/CertifyBlockServer": _WORKERS,
    "/minireduce.Jobs/Submit": _CLIENTS,
    "/minireduce.Jobs/Get": _CLIENTS,
    "/minireduce.Jobs/List": _CLIENTS,
    "/minireduce.Jobs/Wait": _CLIENTS,
    "/minireduce.Jobs/Kill": _CLIENTS,
    "/minireduce.Jobs/Tasks": _CLIENTS,
    "/minireduce.Jobs/Printed": _CLIENTS,
    "/minireduce.Jobs/OpenLogs": _CLIENTS,
    "/minireduce.Jobs/Skipped": _CLIENTS,
    "/minireduce.Jobs/Result": _CLIENTS,
    "/minireduce.Jobs/ConfirmPublished": _CLIENTS,
    "/minireduce.Jobs/CloseResult": _CLIENTS,
    "/minireduce.Cluster/Describe": _CLIENTS,
    "/minireduce.Cluster/ListWorkers": _CLIENTS,
    "/minireduce.Cluster/Drain": _CLIENTS,
    "/minireduce.Files/Stat": _CLIENTS,
    "/minireduce.Files/List": _CLIENTS,
    "/minireduce.Files/Summary": _CLIENTS,
    "/minireduce.Files/Get": _CLIENTS,
    "/minireduce.Files/Health": _CLIENTS,
    "/minireduce.Files/HurryRepair": _CLIENTS,
    "/minireduce.Files/Blocks": _CLIENTS,
    "/minireduce.Files/Describe": _CLIENTS,
    "/minireduce.Files/MakeDirectory": _CLIENTS,
    "/minireduce.Files/Rename": _CLIENTS,
    "/minireduce.Files/Remove": _CLIENTS,
    "/minireduce.Files/ChangeAttributes": _CLIENTS,
    "/minireduce.Files/Create": _CLIENTS,
    "/minireduce.Files/Append": _CLIENTS,
    "/minireduce.Files/AddBlock": _CLIENTS,
    "/minireduce.Files/CommitBlock": _CLIENTS,
    "/minireduce.Files/Close": _CLIENTS,
    "/minireduce.Files/CloseContainer": _CLIENTS,
    "/minireduce.Files/Abandon": _CLIENTS,
    "/minireduce.Files/RenewLease": _CLIENTS,
    "/minireduce.Files/ReportDamage": _CLIENTS,
}
"""The methods of the master."""

MASTER_ROUTES: Doors = {
    "GET /healthz": _EVERYBODY,
    "GET /login": _EVERYBODY,
    "POST /login": _EVERYBODY,
    "GET /": _CLIENTS,
    "GET /metrics": _CLIENTS,
    "GET /status.txt": _CLIENTS,
    "GET /jobs/*": _CLIENTS,
    "GET /api/v1/*": _CLIENTS,
}
"""The pages of the master."""

BLOCK_ROUTES: Doors = {
    "GET /healthz": _EVERYBODY,
    "GET /outputs/*": _JOB_READERS,
    "POST /outputs/*": _JOB_READERS,
    "GET /logs/*": _JOB_READERS,
    "GET /blocks/*": frozenset({Kind.JOB_READS, Kind.BLOCK_READ}),
    "GET /local/*": frozenset({Kind.JOB_READS, Kind.BLOCK_READ}),
    "PUT /blocks/*": frozenset({Kind.BLOCK_WRITE}),
}
"""The block server of a worker. The two long-lived tokens open nothing here, so they are never sent here."""


def authorize(doors: Doors, door: str, principal: Principal) -> None:
    """Return if `principal` may use `door`. Raises Refused, also for a door that is in no table."""
    kinds = _kinds_admitted(doors, door)
    if principal.kind in kinds:
        return
    if not kinds:
        raise Refused(f"{door} is open to nobody", hint="client and cluster may be of different versions")
    wanted = " or ".join(sorted(kinds))
    if principal.kind is Kind.NOBODY:
        raise Refused(f"{door} needs a token ({wanted}), and none was sent", hint="name one with --token-file")
    raise Refused(f"a {principal.kind} token does not open {door}", hint=f"it needs one of kind {wanted}")


def _kinds_admitted(doors: Doors, door: str) -> frozenset[Kind]:
    if door.startswith("HEAD "):
        door = f"GET {door.removeprefix('HEAD ')}"
    if door in doors:
        return doors[door]
    rows = [row for row in doors if row.endswith("*") and door.startswith(row[:-1])]
    return doors[max(rows, key=len)] if rows else frozenset()


def bearer_of(header: str | None) -> str | None:
    """The token in an `Authorization` header; None without a header. Raises Refused for any other scheme."""
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Refused("the authorization header holds no bearer token")
    return token.strip()


class Authenticator:
    """Tells callers apart by their tokens. `time` gives the seconds since 1970."""

    def __init__(self, tokens: Tokens, time: Callable[[], float]) -> None:
        self._tokens = tokens
        self._time = time
        self._cluster_secret = None if tokens.worker is None else scopes.cluster_secret(tokens.worker)
        self._login_secret = None if tokens.client is None else scopes.login_secret(tokens.client)

    def authenticate(self, bearer: str | None) -> Principal:
        """Whose token this is; NOBODY without one. Raises Refused for a token that is not, or no longer, good."""
        if bearer is None:
            return NOBODY
        if bearer.startswith(scopes.PREFIX) and self._cluster_secret is not None:
            return _principal_of(scopes.check(self._cluster_secret, bearer, self._time()))
        if equal(bearer, self._tokens.client):
            return Principal(Kind.CLIENT)
        if equal(bearer, self._tokens.worker):
            return Principal(Kind.WORKER)
        raise Refused("the token is not one of this cluster", hint="use the token file of the master that you talk to")

    def log_in(self, token: str) -> str:
        """The value of a cookie for a person who gave the client's token. Raises Refused."""
        if self._login_secret is None or not equal(token.strip(), self._tokens.client):
            raise Refused("this is not the client token", hint="it is the first line of the master's token file")
        return scopes.make(self._login_secret, Login(int(self._time()) + LOGIN_S))

    def authenticate_cookie(self, cookie: str | None) -> Principal:
        """A client if the cookie is one that `log_in` gave and still holds; else NOBODY, who may log in again."""
        if cookie is None or self._login_secret is None:
            return NOBODY
        try:
            scope = scopes.check(self._login_secret, cookie, self._time())
        except Refused:
            return NOBODY
        return Principal(Kind.CLIENT) if isinstance(scope, Login) else NOBODY


def _principal_of(scope: scopes.Scope) -> Principal:
    match scope:
        case JobReads():
            return Principal(Kind.JOB_READS, scope)
        case BlockAccess(mode=BlockMode.READ):
            return Principal(Kind.BLOCK_READ, scope)
        case BlockAccess():
            return Principal(Kind.BLOCK_WRITE, scope)
        case Login():
            raise Refused("a login is a cookie of the pages, and no token")
