"""From flags, environment, registry and card to the options of one instance."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks_worker.cli.output import tell_unread
from blocks_worker.config import WorkerConfig, wants_colour, worker_config
from blocks_worker.env_file import load_dotenv
from blocks_worker.errors import ConfigurationError
from blocks_worker.handlers.loader import LoadedHandler, card_agent_name, resolve_card, resolve_handler
from blocks_worker.handlers.registry import search_places
from blocks_worker.observability.logs import setup_logging
from blocks_worker.protocol.cards import load_card
from blocks_worker.runtime.options import AgentInstanceOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from blocks_worker.cli.flags import Flags

_logger = logging.getLogger(__name__)

CARD_FILE = "agent-card.json"
_USUAL_HANDLER = "echo"


def configured(flags: Flags) -> WorkerConfig:
    """Return the configuration of the environment, of ``.env`` and of the flags, which win; logging is set up."""
    unread = load_dotenv(Path.cwd())
    if not flags.check:  # who checks has findings
        tell_unread(unread)
    config = worker_config()
    given: dict[str, Any] = {
        "registry": flags.registry,
        "drain_timeout": flags.drain_timeout,
        "log_level": flags.log_level,
        "log_format": flags.log_format,
        "health_port": flags.health_port,
        "embedded_hub": False if flags.no_local else None,
    }
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    setup_logging(config.log_level, config.log_format, colour=wants_colour())
    return config


def all_chosen(flags: Sequence[Flags], config: WorkerConfig) -> list[AgentInstanceOptions]:
    """Return the options of each instance of a process.

    Raises:
        ConfigurationError: two of them are the same agent; else as `chosen`.
    """
    agents = [chosen(each, config) for each in flags]
    check_apart([(each.handler or "", str(options.agent_name)) for each, options in zip(flags, agents, strict=True)])
    return agents


def check_apart(named: Sequence[tuple[str, str]]) -> None:
    """Check that no two handlers are served under one agent's name; pairs of both.

    Raises:
        ConfigurationError: two are.
    """
    handlers: dict[str, str] = {}
    for handler, agent in named:
        if agent in handlers:
            raise ConfigurationError(
                f"--handler {handlers[agent]} and --handler {handler} are both the agent {agent!r}; "
                "leave one out, or give it another agentName in registry.json"
            )
        handlers[agent] = handler


def chosen(flags: Flags, config: WorkerConfig, *, env: Mapping[str, str] | None = None) -> AgentInstanceOptions:
    """Return the options of the instance; `env` is where an entry's ``requiresEnv`` is looked up, if not around us.

    Raises:
        ConfigurationError, FileNotFoundError, ImportError, AttributeError, TypeError: with what to mend.
    """
    loaded = _loaded(flags, config, Path.cwd(), env)
    # What a handler imports later lies beside it too; behind all else, so that it hides nothing.
    sys.path.extend(str(folder) for folder in loaded.folders if str(folder) not in sys.path)
    options: dict[str, Any] = {**loaded.defaults}
    if flags.concurrency is not None:
        options["concurrency"] = flags.concurrency
    return AgentInstanceOptions(
        agent_name=loaded.agent_name,
        handler=loaded.handler,
        card=loaded.card,
        description=_described(loaded.card) or loaded.description,
        tags=list(loaded.tags),
        instance_id=flags.instance_id,
        drain_timeout=config.drain_timeout,
        embedded_hub=config.embedded_hub,
        **options,
    )


def _described(card: Mapping[str, Any] | None) -> str | None:
    """Return what the card says of the agent: it counts before registry and docstring."""
    identity = (card or {}).get("identity")
    said = identity.get("description") if isinstance(identity, dict) else None
    return said if isinstance(said, str) else None


def _loaded(flags: Flags, config: WorkerConfig, folder: Path, env: Mapping[str, str] | None) -> LoadedHandler:
    here = folder / CARD_FILE
    if flags.handler is None and flags.card is not None:
        return resolve_card(flags.card)
    if flags.handler is None and here.is_file():
        return resolve_card(here)
    loaded = resolve_handler(
        flags.handler or _USUAL_HANDLER, registry_path=config.registry, search=search_places(folder), env=env
    )
    if loaded.card is None and flags.card is not None:
        loaded = replace(loaded, card=_matching(flags.card, loaded.agent_name))
    elif loaded.card is None and here.is_file():
        loaded = replace(loaded, card=_perhaps(here, loaded.agent_name))
    return loaded


def _matching(path: Path, agent_name: str) -> dict[str, Any]:
    card = load_card(path)
    if card_agent_name(card) != agent_name:
        raise ConfigurationError(
            f"{path} is the card of {card_agent_name(card)!r}, the handler's agent is {agent_name!r}; "
            "name another card, or make identity.agentName equal"
        )
    return card


def _perhaps(path: Path, agent_name: str) -> dict[str, Any] | None:
    """Return the working folder's card when it is this agent's; nobody asked for another one."""
    try:
        card = load_card(path)
    except ConfigurationError as error:
        _logger.warning("card_left_aside", extra={"reason": str(error)})
        return None
    named = card_agent_name(card)
    if named == agent_name:
        return card
    reason = f"{path.name} is the card of the agent {named!r}, this one is {agent_name!r}"
    _logger.info("card_left_aside", extra={"reason": reason})
    return None
