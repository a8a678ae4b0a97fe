"""The HTML of what a page shows. Every text goes through :mod:`chat.web.markup`; see there for what becomes of it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from chat.conversations.conversation import Conversation, Message
from chat.session.usage import output_rate, usage_of
from chat.store.base import Summary
from chat.web.generation import Answering
from chat.web.markup import escape, kept_markdown_html, markdown_html, plain_html
from chat.web.session import PageSession
from chat.web.texts import Texts

__all__ = [
    "attached_html",
    "dialog_html",
    "head_html",
    "list_html",
    "live_html",
    "notice_html",
    "title_html",
    "transcript_html",
]

# Drawn for this page: 16 by 16, stroked in the colour of the text.
ICONS = {
    "copy": (
        '<rect x="5.5" y="5.5" width="8" height="8" rx="1.5"/>'
        '<path d="M10.5 5.5v-2a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h2"/>'
    ),
    "edit": '<path d="M3 13l.6-2.8L11 2.8l2.2 2.2-7.4 7.4z"/>',
    "retry": '<path d="M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3"/>',
    "continue": '<path d="M3 8h9M8.5 4.5L12 8l-3.5 3.5"/>',
    "undo": '<path d="M3 6.5h6.5a3.5 3.5 0 0 1 0 7H6M5.5 4L3 6.5 5.5 9"/>',
    "redo": '<path d="M13 6.5H6.5a3.5 3.5 0 0 0 0 7H10M10.5 4L13 6.5 10.5 9"/>',
    "before": '<path d="M9.5 4L6 8l3.5 4"/>',
    "after": '<path d="M6.5 4L10 8l-3.5 4"/>',
    "remove": '<path d="M4 4l8 8M12 4l-8 8"/>',
    "more": '<path d="M3 8h.01M8 8h.01M13 8h.01" stroke-width="2.2"/>',
    "theme": '<circle cx="8" cy="8" r="5.5"/><path d="M8 2.5v11a5.5 5.5 0 0 0 0-11z" fill="currentColor"/>',
}


# -- the conversation -------------------------------------------------------------------------------------------------


def transcript_html(session: PageSession) -> str:
    """Return the turns of the current path, but for the answer under way."""
    texts, conversation = session.texts, session.talk.conversation
    live_id = session.answering.message_id if session.answering and session.is_answering else None
    path = [message for message in conversation.path() if message.id != live_id]
    if not path:
        return _welcome(session)
    shown = _last_turns(path, session.num_shown)
    parts = []
    if len(shown) < len(path):
        hidden = sum(message.role == "user" for message in path[: len(path) - len(shown)])
        label = texts("earlier", turns=texts.count("turn", hidden))
        parts.append(f'<button type="button" class="earlier" data-action="earlier">{escape(label)}</button>')
    start, offset = conversation.window_start(), len(path) - len(shown)
    results = {message.tool_call_id: message for message in shown if message.role == "tool"}
    for index, message in enumerate(shown, start=offset):
        if index == start > 0:
            parts.append(f'<p class="unseen" role="note">{escape(texts("unseen"))}</p>')
        if message.role == "tool":
            continue  # shown with the call that it answers
        is_last = message is shown[-1] and not session.is_answering
        parts.append(_message(texts, conversation, message, results, is_last=is_last))
    return "".join(parts)


def _welcome(session: PageSession) -> str:
    texts = session.texts
    if session.is_answering:
        return ""
    demo = f"<p>{escape(texts('welcome.demo'))}</p>" if session.is_demo else ""
    return f'<div class="welcome"><h2>{escape(texts("welcome"))}</h2>{demo}</div>'


def _last_turns(path: Sequence[Message], num_turns: int) -> Sequence[Message]:
    starts = [index for index, message in enumerate(path) if message.role == "user"]
    return path[starts[-num_turns] :] if len(starts) > num_turns else path


def _message(
    texts: Texts, conversation: Conversation, message: Message, results: Mapping[Any, Message], *, is_last: bool
) -> str:
    if message.role == "user":
        buttons = _button("edit", texts("edit"), message.id) + _copy_button(texts)
        if is_last:
            buttons += _button("retry", texts("retry"), message.id)
        body = plain_html(message.content, texts("copy"))
    else:
        buttons = _answer_buttons(texts, message, is_last=is_last)
        body = _answer_body(texts, message, results)
    versions = _versions(texts, conversation, message)
    kind = "user" if message.role == "user" else "answer"
    return (
        f'<article class="message {kind}" data-id="{escape(message.id)}" data-text="{escape(message.content)}">'
        f'<div class="body">{body}</div>'
        f'<div class="under">{versions}<span class="buttons">{buttons}</span>{_figures(texts, message)}</div></article>'
    )


def _answer_body(texts: Texts, message: Message, results: Mapping[Any, Message]) -> str:
    parts = [_thinking(texts, message.reasoning)] if message.reasoning else []
    if message.content:
        parts.append(kept_markdown_html(message.content, texts("copy")))
    parts += [_tool_step(texts, call, results.get(call.get("id"))) for call in message.tool_calls]
    return "".join(parts)


def _thinking(texts: Texts, reasoning: str) -> str:
    label = texts("thought", size=texts.count("character", len(reasoning)))
    return _folded("thinking", label, f'<div class="plain">{escape(reasoning.strip())}</div>')


def _tool_step(texts: Texts, call: Mapping[str, Any], result: Message | None) -> str:
    function = call.get("function") or {}
    arguments = str(function.get("arguments", ""))
    with contextlib.suppress(ValueError):  # a call that was cut off is shown as far as it came
        arguments = json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)
    parts = f'<h4>{escape(texts("tool.arguments"))}</h4><pre tabindex="0">{escape(arguments)}</pre>'
    if result is not None:
        parts += f'<h4>{escape(texts("tool.result"))}</h4><pre tabindex="0">{escape(result.content)}</pre>'
    return _folded("tool", texts("tool", name=function.get("name", "")), parts)


def _folded(kind: str, label: str, content: str, *, is_open: bool = False) -> str:
    opened = " open" if is_open else ""
    return f'<details class="{kind}"{opened}><summary>{escape(label)}</summary>{content}</details>'


def _answer_buttons(texts: Texts, message: Message, *, is_last: bool) -> str:
    buttons = _copy_button(texts) + _button("retry", texts("retry"), message.id)
    if is_last and message.content:
        buttons += _button("continue", texts("continue"), message.id)
    if is_last:
        buttons += _button("undo", texts("undo"), message.id)
    return buttons


def _versions(texts: Texts, conversation: Conversation, message: Message) -> str:
    """Return the arrows that go through what was said in a message's place."""
    versions = conversation.variants(message.id)
    if len(versions) < 2:
        return ""
    place = next(index for index, other in enumerate(versions) if other.id == message.id)
    before = versions[place - 1].id if place > 0 else ""
    after = versions[place + 1].id if place + 1 < len(versions) else ""
    count = texts("variant", n=place + 1, all=len(versions))
    return (
        '<span class="versions">'
        + _button("variant", texts("variant.before"), before, icon="before", is_enabled=bool(before))
        + f"<span>{escape(count)}</span>"
        + _button("variant", texts("variant.after"), after, icon="after", is_enabled=bool(after))
        + "</span>"
    )


def _button(action: str, label: str, message_id: str, *, icon: str = "", is_enabled: bool = True) -> str:
    disabled = "" if is_enabled else " disabled"
    return (
        f'<button type="button" data-action="{action}" data-id="{escape(message_id)}"{disabled} '
        f'aria-label="{escape(label)}" title="{escape(label)}">{_icon(icon or action)}</button>'
    )


def _copy_button(texts: Texts) -> str:
    label = escape(texts("copy"))
    return f'<button type="button" data-copy="message" aria-label="{label}" title="{label}">{_icon("copy")}</button>'


def _icon(name: str) -> str:
    return f'<svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">{ICONS[name]}</svg>'


def _figures(texts: Texts, message: Message) -> str:
    """Return the line of figures: tokens, time to the first one, tokens per second, what was cached, how it ended."""
    parts: list[str] = []
    if (usage := usage_of(message)) is not None:
        parts += [texts.count("token", usage.num_output_tokens), texts("figures.ttft", s=usage.ttft_ms / 1000)]
        if (rate := output_rate(usage)) is not None:
            parts.append(texts("figures.rate", rate=rate))
        parts.append(texts("figures.prompt", n=f"{usage.num_prompt_tokens:,}"))
        if usage.num_cached_tokens:
            parts.append(texts("figures.cached", n=f"{usage.num_cached_tokens:,}"))
    if message.status == "partial":
        parts.append(texts("unfinished"))
    elif message.finish_reason in ("abort", "length"):
        parts.append(texts("stopped" if message.finish_reason == "abort" else "cut"))
    return f'<span class="figures">{escape(" · ".join(parts))}</span>' if parts else ""


# -- the answer under way ---------------------------------------------------------------------------------------------


def live_html(session: PageSession) -> str:
    """Return the answer under way; nothing if there is none."""
    answering, texts = session.answering, session.texts
    if answering is None or answering.is_over:
        return ""
    answer, before = answering.answer, answering.before
    parts = []
    reasoning = (before.reasoning if before else "") + answer.reasoning
    content = (before.content if before else "") + answer.text
    seconds = time.monotonic() - answer.started_s
    if reasoning:
        label = texts("thinking", s=seconds) if not content else texts("thought", size=_size(texts, reasoning))
        body = f'<div class="plain">{escape(reasoning.strip())}</div>'
        parts.append(_folded("thinking", label, body, is_open=session.settings.thinking_view == "full"))
    if content:
        parts.append(markdown_html(content, texts("copy")))
    if not reasoning and not content:
        parts.append(f'<p class="waiting">{escape(_waiting(session, answering, seconds))}</p>')
    body = "".join(parts)
    return f'<article class="message answer live"><div class="body">{body}</div></article>'


def _waiting(session: PageSession, answering: Answering, seconds: float) -> str:
    return loading_text(session) or session.texts("waiting", s=seconds)


def _size(texts: Texts, text: str) -> str:
    return texts.count("character", len(text))


# -- around the conversation ------------------------------------------------------------------------------------------


def loading_text(session: PageSession) -> str:
    """Return how far the model is, or why it is not there; nothing once it is ready."""
    status, texts = session.backend.status(), session.texts
    if status.stage == "ready":
        return ""
    stage = texts(f"stage.{status.stage}")
    if status.error is not None:
        return f"{stage}: {session.describe(status.error)}"
    return texts("loading", stage=stage, s=status.elapsed_s)


def head_html(session: PageSession, *, can_log_out: bool) -> str:
    """Return the bar above the conversation: title, menu, model, gauge."""
    texts, conversation = session.texts, session.talk.conversation
    title = conversation.title or texts("title.none")
    return (
        f'<div class="title"><h1>{escape(title)}</h1>{_menu(session, can_log_out=can_log_out)}</div>'
        f'<div class="state">{_model(session)}{_gauge(session)}</div>'
    )


def _menu(session: PageSession, *, can_log_out: bool) -> str:
    texts, conversation = session.texts, session.talk.conversation
    items = ""
    if conversation.messages:
        address = f"export/{escape(conversation.id)}"
        items = (
            f'<button type="button" data-dialog="rename">{escape(texts("rename"))}</button>'
            f'<a href="{address}.md" download>{escape(texts("export.md"))}</a>'
            f'<a href="{address}.json" download>{escape(texts("export.json"))}</a>'
            f'<button type="button" data-dialog="delete">{escape(texts("delete"))}</button>'
        )
    if conversation.redo_ids:
        items += f'<button type="button" data-action="redo">{escape(texts("redo"))}</button>'
    items += f'<button type="button" data-theme>{escape(texts("theme"))}</button>'
    if can_log_out:
        items += f'<a href="logout">{escape(texts("logout"))}</a>'
    label = escape(texts("menu"))
    return (
        f'<details class="menu"><summary aria-label="{label}" title="{label}">{_icon("more")}</summary>'
        f'<div class="items" data-id="{escape(conversation.id)}">{items}</div></details>'
    )


def _model(session: PageSession) -> str:
    loading = loading_text(session)
    kind = "failed" if session.backend.status().stage == "failed" else "loading" if loading else "ready"
    reload = ""
    if kind == "failed":
        reload = f' <button type="button" data-action="reload">{escape(session.texts("reload"))}</button>'
    shown = f" · {escape(loading)}" if loading else ""
    name = f'<span class="dot" aria-hidden="true"></span>{escape(session.model_name)}'
    return f'<span class="model {kind}">{name}{shown}{reload}</span>'


def _gauge(session: PageSession) -> str:
    texts, window = session.texts, session.max_model_len
    if not window:
        return ""
    used = min(session.num_context_tokens, window)
    words = texts("context.used", used=f"{used:,}", all=f"{window:,}")
    dropped = session.num_dropped_turns
    note = texts("context.dropped", turns=texts.count("turn", dropped)) if dropped else ""
    label, level = escape(texts("context")), f'min="0" max="{window}" high="{int(window * 0.8)}" value="{used}"'
    meter = f'<meter {level} aria-label="{label}"></meter>'
    return f'<span class="gauge" title="{label}">{meter} {escape(" · ".join(filter(None, (words, note))))}</span>'


def list_html(session: PageSession, words: str) -> str:
    """Return the list of conversations, or of those in which words occur."""
    texts, here = session.texts, session.talk.conversation.id
    entries = session.find_conversations(words)
    if not entries:
        return f'<p class="none">{escape(texts("list.none" if words.strip() else "list.empty"))}</p>'
    rows = "".join(_row(texts, entry, is_here=entry.id == here) for entry in entries)
    return f'<nav aria-label="{escape(texts("list"))}"><ul>{rows}</ul></nav>'


def _row(texts: Texts, entry: Summary, *, is_here: bool) -> str:
    current = ' aria-current="page"' if is_here else ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.updated_at_utc)) if entry.updated_at_utc else ""
    note = entry.excerpt or (f"{when} · {texts('list.unfinished')}" if entry.unfinished else when)
    return (
        f'<li><button type="button" data-action="open" data-id="{escape(entry.id)}"{current}>'
        f"<span>{escape(entry.title or texts('title.none'))}</span><small>{escape(note)}</small></button></li>"
    )


def attached_html(session: PageSession) -> str:
    """Return the files that go with the next message, with what each will cost."""
    texts, rows = session.texts, []
    for index, attached in enumerate(session.attached):
        file = attached.file
        facts: dict[str, Any] = {"name": file.name, "encoding": file.encoding}
        facts["size"] = texts.count("byte", file.size_bytes)
        if attached.num_tokens is None:
            words = texts("attached.uncounted", **facts)
        else:
            words = texts("attached", tokens=texts.count("token", attached.num_tokens), **facts)
        remove = _button("detach", texts("detach", name=file.name), str(index), icon="remove")
        rows.append(f"<li><span>{escape(words)}</span>{remove}</li>")
    return f'<ul class="files">{"".join(rows)}</ul>' if rows else ""


def notice_html(session: PageSession) -> str:
    """Return what the page has to tell."""
    lines = [f"<p>{escape(line)}</p>" for line in session.notice.split("\n") if line]
    if session.editing is not None:
        label = escape(session.texts("cancel"))
        lines.append(f'<button type="button" data-action="cancel-edit">{label}</button>')
    return f'<div role="status">{"".join(lines)}</div>'


def title_html(text: str) -> str:
    """Return a heading of the settings."""
    return f"<h2>{escape(text)}</h2>"


def dialog_html(texts: Texts) -> str:
    """Return the two questions that the page asks: a new title, and whether to delete; and words that page.js needs."""
    names = {"list": "panel.list", "settings": "panel.settings", "attach": "attach", "log": "log"}
    words = "".join(f' data-{name}="{escape(texts(key))}"' for name, key in names.items())
    ok, cancel = escape(texts("ok")), escape(texts("cancel"))
    buttons = f'<button type="button" data-close>{cancel}</button><button type="submit">{ok}</button>'
    answers = f'<div class="answers">{buttons}</div>'
    return (
        f'<span class="words" data-language="{texts.language}"{words}></span>'
        f'<dialog data-name="rename" aria-label="{escape(texts("rename"))}"><form method="dialog">'
        f'<label>{escape(texts("rename.label"))}<input name="title" maxlength="200"></label>{answers}</form></dialog>'
        f'<dialog data-name="delete" aria-label="{escape(texts("delete"))}"><form method="dialog">'
        f"<p>{escape(texts('delete.ask'))}</p>{answers}</form></dialog>"
    )
