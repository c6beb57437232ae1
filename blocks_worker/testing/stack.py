"""A hub with its local network, a worker for each handler and a client, all in this process, in a folder that goes."""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from blocks_worker.client.client import TaskClient
from blocks_worker.client.opening import connected
from blocks_worker.client.settings import Wishes
from blocks_worker.config import ClientConfig, Connection, HubConfig, WorkerConfig
from blocks_worker.controlplane.whereabouts import CDM_PATH
from blocks_worker.handlers.base import Handler
from blocks_worker.protocol.channels import AGENT
from blocks_worker.runtime.instance import started_in
from blocks_worker.runtime.options import AgentInstanceOptions, options_of
from blocks_worker.state import StateFolder
from blocks_worker.testing.faults import StackFaults
from blocks_worker.testing.ground import NOT_RUNNING, Ground

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from blocks_worker.client.params import RunOptions
    from blocks_worker.client.results import TaskResult
    from blocks_worker.runtime.instance import AgentInstance

#: Seconds for a worker to be ready.
_READY = 20.0
#: Bytes that have to stay free on the disk: what a test leaves behind is small.
_RESERVE = 1 << 20
#: What a handler is called whose own name is none for an agent, a lambda's for one.
_UNNAMED = "agent"


class LocalStack:
    """Run handlers as agents while a ``with`` block lasts, and ask them.

    Nothing is read from the environment, nothing is written outside the temporary folder, and every port is a free one.
    At the end of the block handlers that still work have `drain_timeout` seconds, and are cancelled then.

    Args:
        handlers: one, which is served under its own name, or handlers by the names of their agents. In place of a
            handler there may be `AgentInstanceOptions`, or a dict of options, for a card or more than one slot.
        drain_timeout: seconds.

    Attributes:
        agents: the running instances, by the names of their agents.
        url: the hub's address.
        api_key: lets other clients in.
        faults: what may go wrong.
    """

    def __init__(self, handlers: object, *, drain_timeout: float = 1.0) -> None:
        self.agents: dict[str, AgentInstance] = {}
        self.url = ""
        self.api_key = ""
        self._ground = Ground(reached=self._start_dead)
        self.faults = StackFaults(self._ground, self._replace_worker)
        self._wanted = _wanted(handlers)
        self._options: dict[str, AgentInstanceOptions] = {}
        self._drain_timeout = drain_timeout
        self._opened = ExitStack()
        self._client: TaskClient | None = None
        self._folder = Path()
        #: Agents whose worker was killed, and is not replaced yet.
        self._dead: list[str] = []
        self._replacing = threading.Lock()
        self._is_cut = False

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="blocks-", ignore_cleanup_errors=True))
            self._folder = Path(folder)
            opened.callback(self._ground.close)
            address = self._ground.open(self._hub_config)
            self.url, self.api_key = address.url, StateFolder(self._folder).local_key()
            for options in self._wanted:
                agent = self._started(options)
                self.agents[agent.agent_name] = agent
                self._options[agent.agent_name] = options
                opened.callback(self._stop_agent, agent.agent_name)
            for agent in self.agents.values():
                agent.wait_ready(_READY)
            client = self._client = self._connected()
            opened.callback(client.destroy)
            opened.callback(self._ground.heal)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._client = None
        self._opened.close()

    @property
    def client(self) -> TaskClient:
        """A client of this hub.

        Raises:
            RuntimeError: the block has not begun, or is over.
        """
        if self._client is None:
            raise RuntimeError(NOT_RUNNING)
        return self._client

    def run(
        self, agent: str, parts: object = None, timeout: float | None = 30, **keywords: Unpack[RunOptions]
    ) -> TaskResult:
        """Send a task, wait and return its result, as `TaskClient.run` does.

        Raises:
            TaskFailedError: the task failed or was canceled.
            TimeoutError: it is not over yet; it goes on.
        """
        return self.client.run(agent, parts, timeout, **keywords)

    def cut_network(self) -> None:
        """Take the local network away: it refuses every connection until `restore_network`. The hub stays."""
        if not self._is_cut:
            self._ground.hold("cut")
            self._is_cut = True

    def restore_network(self) -> None:
        """Have the network back, with all that was published before."""
        if self._is_cut:
            self._is_cut = False
            self._ground.let_go("cut")

    def restart_hub(self) -> None:
        """End the hub, its network with it, and start it again at the same address, with the same ledger."""
        with self.faults.hub_stopped():
            pass

    # ------------------------------------------------------------ steps

    def _hub_config(self, port: int) -> HubConfig:
        return HubConfig(state_dir=self._folder, port=port, reserve_bytes=_RESERVE)

    def _stop_agent(self, name: str) -> None:
        self.agents[name].stop(self._drain_timeout)

    def _replace_worker(self, name: str) -> None:
        """Kill a worker; the one that registers under its name ends its leases, as after a crash."""
        if name not in self.agents:
            raise KeyError(f"no agent {name!r} in this stack; it has {', '.join(self.agents)}")
        if self._client is None:
            raise RuntimeError(NOT_RUNNING)
        self.agents[name].kill()
        with self._replacing:
            self._dead.append(name)
        self._start_dead()

    def _start_dead(self) -> None:
        """Start the workers that are missing, if there is a hub that lets them in."""
        with self._replacing:
            while self._dead and self._ground.answers:
                name = self._dead[-1]
                new = self._started(replace(self._options[name], instance_id=self.agents[name].instance_id))
                self.agents[name] = new
                self._dead = [each for each in self._dead if each != name]
                if self._ground.delivers:  # else nothing proves that it listens before the network is back
                    new.wait_ready(_READY)

    def _started(self, options: AgentInstanceOptions) -> AgentInstance:
        config = WorkerConfig(connection=self._connection(), embedded_hub=False)
        return started_in(options, config, client_config=self._client_config())

    def _connected(self) -> TaskClient:
        wishes = Wishes(cdm_url=f"{self.url}{CDM_PATH}", api_key=self.api_key)
        return TaskClient(connected(wishes, "free", settings=self._client_config()))

    def _client_config(self) -> ClientConfig:
        return ClientConfig(connection=self._connection())

    def _connection(self) -> Connection:
        return Connection(state_dir=self._folder, cdm_url=f"{self.url}{CDM_PATH}", api_key=self.api_key)


def _wanted(handlers: object) -> list[AgentInstanceOptions]:
    """Return the options of each agent.

    Raises:
        ValueError, TypeError: one is no handler and no options.
    """
    if isinstance(handlers, dict):
        return [_options(each, str(name)) for name, each in handlers.items()]
    return [_options(handlers, None)]


def _options(given: object, name: str | None) -> AgentInstanceOptions:
    if isinstance(given, (AgentInstanceOptions, dict)):
        options = options_of(given)
        return options if name is None else replace(options, agent_name=name)
    handler = given if isinstance(given, Handler) else Handler.of(given)  # type: ignore[arg-type]  # looked at there
    own = handler.name if AGENT.match(handler.name) else _UNNAMED
    return AgentInstanceOptions(agent_name=name or own, agent=handler)
