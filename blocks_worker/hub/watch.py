"""What of the answers belongs into the audit: every refusal of a caller, with who he is as far as that is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from blocks_worker.hub.answers import Holder
from blocks_worker.hub.api.calls import Answer, Call
from blocks_worker.hub.auth.tokens import hashed
from blocks_worker.hub.problems import NO_ROOM, RefusalError
from blocks_worker.hub.store.credentials import key_id

if TYPE_CHECKING:
    from blocks_worker.hub.api.calls import Scope, StreamedAnswer
    from blocks_worker.hub.audit import Audit
    from blocks_worker.hub.auth.guard import Guard

_REFUSED, _FAILED = 400, 500
#: Answers by which an honest caller learns what to send instead: where a run goes on, or where a file ends.
_USUAL = frozenset({416, 422})
#: What an answer to a batch has in it when an item was refused, unless an event says so.
_REFUSED_ITEM = b'{"status":4'
#: The parts of an address that may be told; the address of an upload is a secret.
_TOLD = frozenset({"task_id", "file_id", "id", "name"})


class Watch:
    """Look at each answer once it is made; what is no refusal costs a comparison."""

    def __init__(self, audit: Audit, guard: Guard) -> None:
        self._audit = audit
        self._guard = guard

    def answered(self, scope: Scope, route: str | None, answer: Answer | StreamedAnswer) -> None:
        """Write down what was refused; `route` is the template of the address, None where there is no such."""
        if not isinstance(answer, Answer):
            return
        if answer.status < _REFUSED:
            if answer.body[:1] == b"[" and _REFUSED_ITEM in answer.body:
                self._items(scope, route, answer)
        elif (answer.status < _FAILED and answer.status not in _USUAL) or answer.status == NO_ROOM:
            self._audit.refused(_code(_decoded(answer.body)), status=answer.status, **self._asked(scope, route))

    def _items(self, scope: Scope, route: str | None, answer: Answer) -> None:
        """Write down which codes the refused items of a batch had, and how often."""
        codes: dict[tuple[int, str], int] = {}
        for item in _decoded(answer.body):
            status = item["status"]
            if _REFUSED <= status < _FAILED and status not in _USUAL:
                kind = (status, _code(item["body"]))
                codes[kind] = codes.get(kind, 0) + 1
        for (status, code), count in codes.items():
            self._audit.refused(code, status=status, items=count, **self._asked(scope, route))

    def _asked(self, scope: Scope, route: str | None) -> dict[str, Any]:
        client = scope.get("client") or (None,)
        parts = {name: value for name, value in scope.get("path_params", {}).items() if name in _TOLD}
        return {"method": scope["method"], "route": route, "from": client[0], **parts, **self._who(scope)}

    def _who(self, scope: Scope) -> dict[str, str]:
        """Return whose token came along, where it was good; of an API key its id, good or not."""
        call = Call(scope, b"", {})
        try:
            who = self._guard.either(call.bearer)
        except RefusalError:
            sent = call.api_key or ""
            return {"key": key_id(hashed(sent))} if sent.startswith("bk_") else {}
        told = {"by": who.owner, "key": who.key}
        if isinstance(who, Holder):
            told |= {"agent": who.agent_name, "instance": who.instance_id, "incarnation": who.incarnation}
        return told


def _decoded(body: bytes) -> Any:
    return json.loads(body) if body else {}


def _code(body: dict[str, Any]) -> str:
    """Return the word of a refusal; a run that is told how its task stands has that as its word."""
    return str(body.get("code") or body.get("state") or "Refused")
