"""Commands about the model: what it is told, how it samples, how it thinks, what it sees."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from chat.session.attachments import read_attachment
from chat.session.sampling_options import SAMPLING, parse_assignments
from chat.terminal.app import TerminalApp
from chat.terminal.commands.numbers import whole_number
from chat.terminal.figures import totals
from chat.terminal.recent_models import recent_models
from chatcore.errors import ChatError, CommandError

if TYPE_CHECKING:
    from chat.backends.base import Backend

__all__ = [
    "config",
    "context",
    "context_values",
    "log",
    "model",
    "model_values",
    "reload",
    "reset_values",
    "set_names",
    "set_values",
    "setting_values",
    "stats",
    "switch_values",
    "system",
    "system_values",
    "think",
    "think_values",
    "tokens",
]

THINKING_VIEWS = ("full", "collapsed", "hidden")
THINKING_MODES = {"on": True, "off": False, "auto": None}
CONTEXT_POLICIES = ("roll", "ask", "error")

Values = Iterable[tuple[str, str]]


def system(app: TerminalApp, argument: str) -> None:
    """Show or replace the system message. It is replaced, never added to."""
    session, texts = app.session, app.texts
    if argument in ("", "show"):
        app.display.line(session.talk.conversation.system or texts("system.none"))
        return
    if argument == "reset":
        session.set_system(session.default_system)
    elif argument.startswith("@"):
        session.set_system(read_attachment(Path(argument[1:].strip())).text.strip())
    else:
        session.set_system(argument)
    app.display.line(texts("system.set", text=session.talk.conversation.system or texts("system.none")))


def system_values(app: TerminalApp) -> Values:
    """Return the words that /system knows."""
    return [("show", app.texts("system.show")), ("reset", app.texts("system.reset"))]


def set_values(app: TerminalApp, argument: str) -> None:
    """Set sampling parameters, or list them."""
    session = app.session
    if argument:
        session.sampling.update(parse_assignments(argument))
    defaults = session.sampling_defaults
    rows = [
        [name, f"{session.sampling[name]!r}" if name in session.sampling else "", f"{defaults.get(name, '')}", p.range]
        for name, p in SAMPLING.items()
        if not argument or name in session.sampling
    ]
    app.display.table([[app.texts(f"set.{word}") for word in ("name", "value", "default", "range")], *rows])


def setting_values(app: TerminalApp) -> Values:
    """Return what can be set, with the ranges."""
    return [(f"{name}=", parameter.range) for name, parameter in SAMPLING.items()]


def reset_values(app: TerminalApp, argument: str) -> None:
    """Go back to the model's own sampling parameters: all of them, or those that are named."""
    session = app.session
    names = argument.split() or list(session.sampling)
    for name in names:
        if name not in session.sampling:
            raise CommandError(app.texts("reset.unset", name=name))
    for name in names:
        del session.sampling[name]
    app.display.line(app.texts("reset.done", names=", ".join(names)) if names else app.texts("reset.nothing"))


def set_names(app: TerminalApp) -> Values:
    """Return what has been set."""
    return [(name, repr(value)) for name, value in app.session.sampling.items()]


def think(app: TerminalApp, argument: str) -> None:
    """Say whether the model thinks first, how long, and how it is shown; or show the last thinking."""
    session, texts = app.session, app.texts
    word, _, rest = argument.partition(" ")
    if argument == "show":
        answer = session.talk.last_answer()
        if answer is None or not answer.reasoning:
            raise CommandError(texts("think.none"))
        stream = app.display.thinking()
        stream.feed(answer.reasoning)
        stream.finish()
        return
    if word == "budget":
        budget = whole_number(rest)
        if budget is None:
            raise CommandError(texts("think.budget.bad", value=rest))
        session.thinking_budget = budget
    elif word in THINKING_MODES and not rest:
        session.enable_thinking = THINKING_MODES[word]
        if word == "auto":
            session.thinking_budget = None
    elif word in THINKING_VIEWS and not rest:
        session.thinking_view = word
    elif argument:
        raise CommandError(texts("think.unknown", value=argument), hint="/help think")
    app.display.line(
        texts("think.is", mode=session.thinking_mode, view=session.thinking_view)
        + (texts("think.budget.is", n=session.thinking_budget) if session.thinking_budget is not None else "")
    )
    if session.enable_thinking and not session.can_think:
        app.display.dim(texts("think.cannot", name=session.model_name))


def think_values(app: TerminalApp) -> Values:
    """Return the words that /think knows."""
    return [(word, app.texts(f"think.{word}")) for word in (*THINKING_MODES, "budget", *THINKING_VIEWS, "show")]


def model(app: TerminalApp, argument: str) -> None:
    """Tell about the model and the others, or change to another one; the conversation goes on."""
    if argument:
        _change_model(app, argument.strip("\"'"))
        return
    session, texts = app.session, app.texts
    rows = [[texts("model.name"), session.model_name], [texts("model.state"), session.loading_text() or "ok"]]
    if info := session.info():
        rows[1:] = [
            [texts("model.window"), texts.count("token", info.max_model_len)],
            [texts("model.thinks"), texts("word.yes" if info.thinks else "word.no")],
            [texts("model.defaults"), ", ".join(f"{k}={v}" for k, v in info.sampling_defaults.items()) or "-"],
        ]
    rows += [[label, name] for label, name in _other_models(app)]
    app.display.table(rows)
    if session.is_demo:
        app.display.dim(texts("banner.demo"))
    if app.open_backend is not None:
        app.display.dim(texts("model.how"))


def _change_model(app: TerminalApp, name: str) -> None:
    session, texts = app.session, app.texts
    if app.open_backend is None:
        raise CommandError(texts("model.fixed", name=session.model_name))
    if name in (session.backend.name, session.model_name) and session.info() is not None:
        app.display.line(texts("model.same", name=name))
        return
    new: Backend | None = None
    try:
        new = app.open_backend(name)
        app.wait_for(new)
    except (ChatError, KeyboardInterrupt) as error:
        if new is not None:
            new.close()
        if isinstance(error, ChatError):
            app.display.error(error)
        app.display.warn(texts("model.stays", name=session.model_name))
        return
    session.use(new)
    app.display.line(texts("model.changed", name=session.model_name))


def _other_models(app: TerminalApp) -> list[tuple[str, str]]:
    """Return what else may be used, each with a word for why it is known; the model in use is left out."""
    session, texts = app.session, app.texts
    is_server = bool(session.settings.url)
    try:
        loaded = session.backend.models()
    except ChatError:  # the server does not answer: the list is what is known without it
        loaded = []
    found = {name: texts("model.served" if is_server else "model.loaded") for name in loaded}
    if not is_server:
        for name in recent_models():
            found.setdefault(name, texts("model.recent"))
        found.setdefault("demo", texts("model.embedded"))
    here = {session.backend.name, session.model_name}
    return [(label, name) for name, label in found.items() if name not in here]


def model_values(app: TerminalApp) -> Values:
    """Return the models that /model can change to."""
    return [(name, label) for label, name in _other_models(app)]


def reload(app: TerminalApp, argument: str) -> None:
    """Load the model again, for example after its engine has died."""
    app.session.reload()
    app.display.line(app.texts("reloading", name=app.session.model_name))


def tokens(app: TerminalApp, argument: str) -> None:
    """Show what the window is used for, by source."""
    app.wait_until_loaded()
    app.display.table(app.session.token_rows(), right=(1, 2))


def context(app: TerminalApp, argument: str) -> None:
    """Say what happens when the window is full."""
    session, texts = app.session, app.texts
    if argument and argument not in CONTEXT_POLICIES:
        raise CommandError(texts("context.unknown", value=argument), hint=", ".join(CONTEXT_POLICIES))
    if argument:
        session.context_policy = argument
    app.display.line(texts(f"context.{session.context_policy}"))


def context_values(app: TerminalApp) -> Values:
    """Return what can happen when the window is full."""
    return [(policy, app.texts(f"context.{policy}")) for policy in CONTEXT_POLICIES]


def stats(app: TerminalApp, argument: str) -> None:
    """Show the figures of this session, or switch the line of figures after each answer."""
    session, texts = app.session, app.texts
    if argument in ("on", "off"):
        session.show_figures = argument == "on"
        app.display.line(texts(f"stats.{argument}"))
    elif argument:
        raise CommandError(texts("stats.unknown", value=argument), hint="on, off")
    elif session.usages:
        app.display.table(totals(session.usages, texts))
    else:
        app.display.line(texts("stats.none"))


def switch_values(app: TerminalApp) -> Values:
    """Return on and off."""
    return [("on", app.texts("stats.on")), ("off", app.texts("stats.off"))]


def log(app: TerminalApp, argument: str) -> None:
    """Name the file that the engine's messages go to, and show its end."""
    file = app.session.backend.log_file
    if file is None:
        raise CommandError(app.texts("log.none"))
    app.display.line(str(file))
    try:
        lines = file.read_text("utf-8", errors="replace").splitlines()[-10:]
    except OSError:
        lines = []
    for line in lines:
        app.display.dim(line[:300], wrapped=False)


def config(app: TerminalApp, argument: str) -> None:
    """Show every setting and where its value comes from."""
    app.display.table([list(row) for row in app.session.settings.rows()])
