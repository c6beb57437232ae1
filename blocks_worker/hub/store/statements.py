"""The statements of the ledger: each turn of a task is one compare-and-set, compiled once to text.

The names of the parameters: `key` is a task, `e` an epoch, `by` an incarnation. Constants stand in the text,
because a partial index is found only by the words it was made with.
Long because all turns stand in one place, where each is read beside the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    LargeBinary,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import sqlite

from blocks_worker.hub.store.schema import agent, answer, event, instance, meta, offer, step, stub, task, task_input
from blocks_worker.protocol.instances import InstanceState
from blocks_worker.protocol.lifecycle import EVERYBODY as _EVERYBODY
from blocks_worker.protocol.lifecycle import State
from blocks_worker.protocol.tasks import LEVEL_MS

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, ColumnElement
    from sqlalchemy.sql.expression import ClauseElement

_DIALECT = sqlite.dialect(paramstyle="named")


def _hot(statement: ClauseElement) -> str:
    return str(statement.compile(dialect=_DIALECT))


def _by_place(statement: ClauseElement) -> str:
    """Return a statement that takes its values in the order of the columns."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="qmark")))


def _p(name: str) -> BindParameter[Any]:
    return bindparam(name)


def _word(value: str) -> ColumnElement[Any]:
    return literal_column(f"'{value}'")


def _in(*states: State) -> ColumnElement[bool]:
    if len(states) == 1:
        return task.c.state == _word(states[0].value)
    return task.c.state.in_([_word(state.value) for state in states])


_NULL = null()
_ONE: ColumnElement[int] = literal_column("1")
_NONE: ColumnElement[int] = literal_column("0")

_Q, _O, _R, _C, _E = State.QUEUED, State.OFFERED, State.RUNNING, State.CANCELLING, State.EXPIRING
_I = State.INPUT_REQUIRED
_ROW = and_(task.c.id == _p("key"), task.c.epoch == _p("e"))
_HIS = and_(_ROW, task.c.inc == _p("by"))
#: Was offered the task: alone, or with others and has not refused it.
_OFFERED = or_(
    task.c.inc == _p("by"),
    and_(
        task.c.inc == _word(_EVERYBODY),
        exists().where(offer.c.task == task.c.id, offer.c.inc == _p("by")).correlate(task),
    ),
)
_PIPE = task.c.kind == _word("pipe")
_PAUSED = task.c.pause != _NONE
_AGAIN = and_(task.c.delivery == _word("at_least_once"), task.c.kind == _word("request"))
_READY = task.c.ready_at.is_(_NULL)
_GIVEN_UP = task.c.lost + _ONE >= _p("max_lost")
#: May speak for the task: its holder, or the last one who lost it while it was offered to nobody since.
_SPEAKS = or_(and_(_in(_R, _I, _C, _E), task.c.inc == _p("by")), and_(_in(_Q, _I), task.c.lost_inc == _p("by")))
#: No question is open any more; `question` goes on telling that one was.
_ASKS_NOTHING: dict[str, Any] = {"ask_id": _NULL, "ask_until": _NULL}


def _turn(where: ColumnElement[bool], to: State, **values: Any) -> str:
    changed = {"updated": _p("now"), "due_at": _p("due"), **values}
    return _hot(update(task).where(where).values(state=_word(to.value), **changed))


def _end(where: ColumnElement[bool], to: State | None = None, **values: Any) -> str:
    """Return a turn to an end: nobody holds the task, the day of its purge is fixed."""
    state: Any = _p("to") if to is None else _word(to.value)
    nobody: dict[str, Any] = {
        **_ASKS_NOTHING,
        "inc": _NULL,
        "lost_inc": _NULL,
        "offer_until": _NULL,
        "due_at": _NULL,
        "ready_at": _NULL,
    }
    ended = {"updated": _p("now"), "ended": _p("now"), "purge_at": _p("purge"), "reason": _p("why")}
    return _hot(update(task).where(where).values(state=state, **{**nobody, **ended, **values}))


_FAULT: dict[str, Any] = {"error": _p("fault"), "error_code": _p("fault_code")}
#: An end at which the hub may give the task up.
_GIVES_UP: dict[str, Any] = {**_FAULT, "dead_reason": _p("dead")}

# ------------------------------------------------------------------------------------------------ turns
#: Waits, and nothing keeps it from being offered.
_FREE = and_(_ROW, _in(_Q), ~_PAUSED, _READY, or_(task.c.deadline.is_(_NULL), task.c.deadline > _p("now")))
#: A new epoch of somebody's, of which nothing was said yet.
_ANEW: dict[str, Any] = {
    "epoch": task.c.epoch + _ONE,
    "inc": _p("by"),
    "lost_inc": _NULL,
    "outcome_digest": _NULL,
    "last_n": _NONE,
    "event_bytes": _NONE,
    "paused": _NONE,
    "parked": _NONE,
}
OFFER = _turn(_FREE, _O, **_ANEW, offer_until=_p("until"), leased_at=_NULL)
#: An offer that brings its lease along.
GRANT = _turn(
    and_(_FREE, _AGAIN),
    _R,
    **_ANEW,
    attempt=task.c.attempt + _ONE,
    queue_until=_NULL,
    leased_at=_p("now"),
)
CLAIM = _turn(
    and_(_ROW, _in(_O), _OFFERED),
    _R,
    inc=_p("by"),
    attempt=task.c.attempt + _ONE,
    leased_at=_p("now"),
    expires_at=_p("expires"),
    queue_until=_NULL,
    offer_until=_NULL,
)
WITHDRAW = _turn(and_(_HIS, _in(_O)), _Q, inc=_NULL, offer_until=_NULL)
TAKE_BACK = _turn(
    and_(_HIS, _in(_R), _AGAIN),
    _Q,
    epoch=task.c.epoch + _ONE,
    attempt=task.c.attempt - _ONE,
    inc=_NULL,
    last_n=_NONE,
)
LOSE = _turn(
    and_(_HIS, _in(_R), _AGAIN, task.c.lost + _ONE < _p("max_lost")),
    _Q,
    lost=task.c.lost + _ONE,
    lost_inc=task.c.inc,
    inc=_NULL,
)
RELEASE = _turn(and_(_HIS, _in(_R), _AGAIN), _Q, attempt=task.c.attempt - _ONE, inc=_NULL)
#: A failure that is not the last: the task waits for its next run, and whoever says it again is told the same.
RETRY = _turn(
    and_(
        _ROW,
        _in(_R, _Q, _I),
        task.c.state == _p("was"),
        task.c.last_n == _p("n"),
        _SPEAKS,
        _AGAIN,
        task.c.retries > _NONE,
    ),
    _Q,
    retries=task.c.retries - _ONE,
    ready_at=_p("ready"),
    rank=_p("ready") - literal_column(str(LEVEL_MS)) * task.c.priority,
    outcome_digest=_p("said"),
    inc=_NULL,
    lost_inc=_NULL,
    paused=_NONE,
    parked=_NONE,
    **_ASKS_NOTHING,
)
READY = _turn(and_(_ROW, _in(_Q), task.c.ready_at <= _p("now")), _Q, ready_at=_NULL)
CANCEL_HELD = _turn(
    and_(task.c.id == _p("key"), _in(_R, _I), task.c.inc.is_not(_NULL)),
    _C,
    cancel_at=_p("now"),
    force_at=_p("due"),
    reason=_p("why"),
    **_ASKS_NOTHING,
)
#: A terminate that comes after a cancel: the same turn, a shorter grace.
HASTEN = _turn(
    and_(task.c.id == _p("key"), _in(_C), task.c.force_at > _p("due")), _C, force_at=_p("due"), reason=_p("why")
)

#: The time of a pipe is over: whoever holds it ends its streams first.
EXPIRE_HELD = _turn(and_(_ROW, _in(_R, _I), _PIPE), _E, force_at=_p("due"), reason=_p("why"), **_ASKS_NOTHING)
#: The pause flag, turned once for each number: a repeat that comes late must not undo what came after it.
PAUSE = _hot(
    update(task)
    .where(task.c.id == _p("key"), task.c.pause_seq == _p("was"), task.c.ended.is_(_NULL))
    .values(pause=_p("flag"), pause_seq=task.c.pause_seq + _ONE, updated=_p("now"))
)
#: What the holder says of its run: that it waits for the resume, that it takes no slot.
SAY_PAUSED = _hot(update(task).where(_HIS, _in(_R, _I, _C, _E)).values(paused=_p("flag")))
HEARD_OF = _hot(update(task).where(_HIS, _in(_R, _I, _C, _E)).values(updated=_p("now")))
PARK = _hot(update(task).where(_HIS, _in(_R, _I, _C, _E)).values(parked=_p("flag")))

# ------------------------------------------------------------------------------------------------ questions
#: In the transaction of the event that asks; what was answered, or closed, before is asked no more.
ASK = _turn(
    and_(_HIS, _in(_R), ~exists().where(answer.c.task == task.c.id, answer.c.ask_id == _p("ask")).correlate(task)),
    _I,
    ask_id=_p("ask"),
    ask_until=_p("until"),
    question=_p("question"),
)
_ASKED = and_(_in(_I), task.c.ask_id == _p("ask"))
#: The first answer is the one; who holds the task goes on, else the next run finds it.
ANSWER = _hot(
    update(task)
    .where(task.c.id == _p("key"), _ASKED)
    .values(
        state=case((task.c.inc.is_(_NULL), _word(_Q.value)), else_=_word(_R.value)),
        updated=_p("now"),
        due_at=_p("due"),
        **_ASKS_NOTHING,
    )
)
ASK_CLOSED = _turn(and_(_HIS, _ASKED), _R, **_ASKS_NOTHING)
ASK_EXPIRED = _turn(and_(_ROW, _ASKED, task.c.inc.is_(_NULL), task.c.ask_until <= _p("now")), _Q, **_ASKS_NOTHING)
#: The holder is gone, gave it back or does not know of it: the question stays open.
UNHOLD = _turn(and_(_HIS, _in(_I), _AGAIN), _I, lost_inc=task.c.inc, inc=_NULL, parked=_NONE)
INSERT_ANSWER = _hot(insert(answer))
ANSWERS = _hot(select(answer).where(answer.c.task == _p("key")).order_by(answer.c.ask_id))
ANSWER_TO = _hot(select(answer).where(answer.c.task == _p("key"), answer.c.ask_id == _p("ask")))
COUNT_ANSWERS = _hot(select(func.count()).select_from(answer).where(answer.c.task == _p("key")))
#: A run that comes after a failure asks again what nobody answered.
FORGET_CLOSED = _hot(delete(answer).where(answer.c.task == _p("key"), answer.c.value.is_(_NULL)))

# ------------------------------------------------------------------------------------------------ ends
CANCEL_UNHELD = _end(
    and_(task.c.id == _p("key"), or_(_in(_Q, _O), and_(_in(_I), task.c.inc.is_(_NULL)))),
    State.CANCELLED,
    epoch=task.c.epoch + _ONE,
    last_n=_NONE,
)
EXPIRE = _end(and_(_ROW, or_(_in(_Q, _O), and_(_in(_R, _I), ~_PIPE))), State.EXPIRED, **_GIVES_UP)
OUTCOME = _end(
    and_(_ROW, task.c.state == _p("was"), task.c.last_n == _p("n"), _SPEAKS),
    outcome_digest=_p("said"),
    **_GIVES_UP,
)
#: Instead of a turn back to the queue, for a task that may not be run again.
LOSE_FOR_GOOD = _end(and_(_HIS, or_(and_(_in(_R, _I), ~_AGAIN), and_(_in(_R), _GIVEN_UP))), State.FAILED, **_GIVES_UP)
TAKE_FOR_GOOD = _end(and_(_HIS, _in(_R, _I), ~_AGAIN), State.FAILED, **_GIVES_UP)
RELEASE_FOR_GOOD = _end(and_(_HIS, _in(_R, _I), ~_AGAIN), State.CANCELLED)
FORCE = _end(and_(_HIS, _in(_C)), State.CANCELLED)
FORCE_EXPIRED = _end(and_(_HIS, _in(_E)), State.EXPIRED, **_FAULT)

# ------------------------------------------------------------------------------------------------ events, rows
APPEND = _hot(
    update(task)
    .where(_ROW, task.c.last_n == _p("lo"), _SPEAKS)
    .values(last_n=_p("hi"), event_bytes=task.c.event_bytes + _p("size"), updated=_p("now"))
)
INSERT_EVENT = _by_place(insert(event))
#: Whoever is first stays; only who holds the task may be first.
STEP = _hot(
    sqlite.insert(step)
    .from_select(
        ["task", "name", "value"],
        select(task.c.id, _p("name"), bindparam("value", type_=LargeBinary)).where(_HIS, _in(_R, _C, _E)),
    )
    .on_conflict_do_nothing()
)
#: The steps of a task that is sent again.
COPY_STEPS = _hot(
    insert(step).from_select(
        ["task", "name", "value"], select(_p("new"), step.c.name, step.c.value).where(step.c.task == _p("key"))
    )
)
INSERT_TASK = _by_place(insert(task))
INSERT_INPUT = _by_place(insert(task_input))
INSERT_OFFER = _hot(insert(offer))
DELETE_OFFER = _hot(delete(offer).where(offer.c.task == _p("key"), offer.c.inc == _p("by")))
DELETE_OFFERS = _hot(delete(offer).where(offer.c.task == _p("key")))
WATCH = _hot(update(task).where(task.c.id == _p("key"), task.c.ended.is_(_NULL)).values(watchers=_p("watchers")))
PUT_OFF = _hot(update(task).where(task.c.id == _p("key"), task.c.ended.is_(_NULL)).values(due_at=_p("due")))

# ------------------------------------------------------------------------------------------------ reads
TASK = _hot(select(task).where(task.c.id == _p("key")))
#: The tasks with these ids, as a JSON array; which of them others were asked for by that go on.
_KEYS = select(func.json_each(_p("keys")).table_valued("value").c.value)
TASKS = _hot(select(task).where(task.c.id.in_(_KEYS)))
PARENTS = _hot(select(task.c.parent).where(task.c.parent.in_(_KEYS), task.c.ended.is_(_NULL)))
TASK_BY_KEY = _hot(select(task.c.id).where(task.c.owner == _p("o"), task.c.agent == _p("a"), task.c.idem == _p("k")))
INPUT = _hot(select(task_input.c.start).where(task_input.c.task == _p("key")))
#: The inputs of the tasks with these ids that are not longer than that.
INPUTS = _hot(
    select(task_input.c.task, task_input.c.start).where(
        task_input.c.task.in_(_KEYS), func.length(task_input.c.start) <= _p("most")
    )
)
CHILDREN = _hot(select(task).where(task.c.parent == _p("key"), task.c.ended.is_(_NULL)))
HELD_BY = _hot(select(task).where(task.c.inc == _p("by")))
OFFERED_TO = _hot(select(offer.c.inc).where(offer.c.task == _p("key")).order_by(offer.c.inc))
OFFERED_WITH = _hot(select(task).join(offer, offer.c.task == task.c.id).where(offer.c.inc == _p("by")))
WAITING = _hot(
    select(task)
    .where(_in(_Q), task.c.agent == _p("a"), task.c.pause == _NONE, _READY)
    .where(or_(task.c.deadline.is_(_NULL), task.c.deadline > _p("now")))
    .order_by(task.c.rank, task.c.id)
    .limit(_p("most"))
    .offset(_NONE)
)
#: A task that has not ended waits, is somebody's, or waits for an answer: each has its index.
HAS_TASKS = _hot(
    select(
        or_(
            exists().where(_in(_Q), task.c.agent == _p("a")),
            exists().where(task.c.inc.is_not(_NULL), task.c.agent == _p("a")),
            exists().where(_in(_I), task.c.agent == _p("a")),
        )
    )
)
COUNT_WAITING = _hot(select(func.count()).select_from(task).where(_in(_Q), task.c.agent == _p("a")))
DUE = _hot(select(task).where(task.c.due_at <= _p("now")).order_by(task.c.due_at).limit(_p("most")).offset(_NONE))
PURGE_DUE = _hot(
    select(task).where(task.c.purge_at <= _p("now")).order_by(task.c.purge_at).limit(_p("most")).offset(_NONE)
)
EVENTS = _hot(
    select(event.c.seq, event.c.body)
    .where(event.c.task == _p("key"), event.c.seq > _p("after"))
    .order_by(event.c.seq)
    .limit(_p("most"))
    .offset(_NONE)
)
WORDS = _hot(
    select(event.c.seq)
    .where(event.c.task == _p("key"), event.c.epoch == _p("epoch"), event.c.n.is_(None))
    .order_by(event.c.seq.desc())
    .limit(_p("most"))
    .offset(_NONE)
)
STEPS = _hot(
    select(step.c.name, step.c.value)
    .where(step.c.task == _p("key"), step.c.name > _p("after"))
    .order_by(step.c.name)
    .limit(_p("most"))
    .offset(_NONE)
)
STORED_STEP = _hot(select(step.c.value).where(step.c.task == _p("key"), step.c.name == _p("name")))
COUNT_STEPS = _hot(select(func.count()).select_from(step).where(step.c.task == _p("key")))
#: SQLite knows the length of a value without reading it.
SIZE_OF_STEPS = _hot(select(func.coalesce(func.sum(func.length(step.c.value)), _NONE)).where(step.c.task == _p("key")))
#: Free slots: what the instance may hold, less what it is offered or holds, save what takes no slot.
_IN_USE = (
    select(func.count())
    .select_from(task)
    .where(task.c.inc == instance.c.incarnation, task.c.parked == _NONE)
    .scalar_subquery()
)
_ASKED = select(func.count()).select_from(offer).where(offer.c.inc == instance.c.incarnation).scalar_subquery()
CANDIDATES = _hot(
    select(
        instance.c.agent_id, instance.c.incarnation, instance.c.billing_mode, instance.c.concurrency - _IN_USE - _ASKED
    )
    .where(
        instance.c.agent == _p("a"),
        instance.c.ended.is_(_NULL),
        instance.c.state == _word(InstanceState.READY.value),
        # One of a former owner of the name may still be there.
        instance.c.owner == select(agent.c.owner).where(agent.c.name == _p("a")).scalar_subquery(),
    )
    .order_by(instance.c.connected_at, instance.c.agent_id)
)
#: What is offered or held of an agent and takes a slot: by its instances, and by all of them at once.
_LIVING = select(instance.c.incarnation).where(instance.c.agent == _p("a"), instance.c.ended.is_(_NULL))
_TAKEN = select(func.count()).select_from(task).where(task.c.agent == _p("a"), task.c.parked == _NONE)
COUNT_TAKEN = _hot(
    select(
        _TAKEN.where(task.c.inc.in_(_LIVING)).scalar_subquery()
        + _TAKEN.where(task.c.inc == _word(_EVERYBODY)).scalar_subquery()
    )
)
INSTANCE = _hot(select(instance).where(instance.c.incarnation == _p("by")))
#: Each sweep looks at all of them. In no order: there is no index in that of their connects.
INSTANCES = _hot(select(instance).where(instance.c.ended.is_(_NULL)))
META = _hot(select(meta.c.value).where(meta.c.key == _p("name")))
_SET_META = sqlite.insert(meta).values(key=_p("name"), value=_p("said"))
SET_META = _hot(_SET_META.on_conflict_do_update(index_elements=[meta.c.key], set_={"value": _SET_META.excluded.value}))
AGENT = _hot(
    select(
        agent.c.name,
        agent.c.owner,
        agent.c.billing_mode,
        agent.c.listing,
        agent.c.max_pending_backlog,
        agent.c.max_running_time_sec,
        agent.c.delivery,
        agent.c.card,
        agent.c.expected_instances,
        agent.c.concurrency_limit,
        agent.c.progress_timeout_sec,
    ).where(agent.c.name == _p("a"))
)

# ------------------------------------------------------------------------------------------------ purge
DELETE_EVENTS = _hot(delete(event).where(event.c.task == _p("key")))
DELETE_INPUT = _hot(delete(task_input).where(task_input.c.task == _p("key")))
DELETE_ANSWERS = _hot(delete(answer).where(answer.c.task == _p("key")))
DELETE_STEPS = _hot(delete(step).where(step.c.task == _p("key")))
DELETE_TASK = _hot(delete(task).where(task.c.id == _p("key")))
INSERT_STUB = _hot(insert(stub))
STUB = _hot(select(stub).where(stub.c.id == _p("key")))
STUBS = _hot(select(stub.c.id).where(stub.c.id.in_(_KEYS)))
#: A key counts as long after the end as that of a task which was not purged.
STUB_BY_KEY = _hot(
    select(stub).where(
        stub.c.owner == _p("o"), stub.c.agent == _p("a"), stub.c.idem == _p("k"), stub.c.ended > _p("since")
    )
)
DELETE_STUBS = _hot(delete(stub).where(stub.c.purged_at < _p("before")))

#: Every statement that stands in the path of a task or of a sweep, for the test of their plans.
HOT = {
    name: text for name, text in vars().copy().items() if name[0] != "_" and name.isupper() and isinstance(text, str)
}
