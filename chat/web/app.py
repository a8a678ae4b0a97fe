"""The page: what is where on it, and which event does what. What is shown comes from chat/web/view.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from anyio import to_thread

from chat.session.sampling_options import SAMPLING, Parameter
from chat.session.texts import LANGUAGES
from chat.web import view
from chat.web.markup import code_style
from chat.web.open_pages import Pages, act, choose_language, do
from chat.web.session import THINKING, PageSession, neutral_value
from chat.web.texts import Texts
from chatcore.errors import ChatError, describe

__all__ = ["make_page", "page_options"]

PAGE_FILES = Path(__file__).parent / "page"
TICK_S = 0.08  # how often an answer under way is shown
SLOW_TICK_CHARACTERS = 12_000  # of an answer; a longer one is shown less often, in proportion
IDLE_TICK_S = 0.4  # how often a loading model is asked how far it is
LANGUAGE_NAMES = {"en": "English", "zh": "中文"}

# Passes the clicks on the buttons of our own HTML on as events; page.js does the rest.
CLICKS_TO_EVENTS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-action]');
  if (button && element.contains(button)) trigger('act', {action: button.dataset.action, id: button.dataset.id || ''});
});
element.addEventListener('page-act', (event) => trigger('act', event.detail));
"""

KEEP_LANGUAGE = "(language, words) => { localStorage.setItem('language', language); return [language, words]; }"

Updates = dict[Any, Any]


@dataclass(slots=True)
class Page:
    """The parts of the page that events change."""

    listing: gr.HTML
    search: gr.Textbox
    new: gr.Button
    head: gr.HTML
    past: gr.HTML
    live: gr.HTML
    notice: gr.HTML
    files: gr.HTML
    dialogs: gr.HTML
    box: gr.Textbox
    attach: gr.UploadButton
    send: gr.Button
    stop: gr.Button
    system: gr.Textbox
    think: gr.Radio
    reset: gr.Button
    settings_title: gr.HTML
    sampling_title: gr.HTML
    language: gr.Dropdown
    sampling: dict[str, Any] = field(default_factory=dict)

    def outputs(self) -> list[Any]:
        """Return everything that an event may change."""
        fixed = [getattr(self, name) for name in self.__slots__ if name not in ("sampling", "search")]
        return [*fixed, self.search, *self.sampling.values()]


def make_page(pages: Pages) -> gr.Blocks:
    """Return the page as Gradio serves it."""
    with gr.Blocks(analytics_enabled=False, title="vllm-deploy", fill_height=True, fill_width=True) as blocks:
        start = [gr.Textbox(visible=False) for _ in range(2)]  # what the browser knows: conversation, language
        page = _lay_out(Texts(pages.settings.language or "en"))
        events = Events(pages, page)
        events.connect(blocks, start)
    blocks.queue(default_concurrency_limit=None, api_open=False)
    return blocks


def page_options() -> dict[str, Any]:
    """Return how the page is mounted: its style, its script, and nothing from elsewhere."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "monospace"]
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        font=[gr.themes.Font(name) for name in fonts],
        font_mono=[gr.themes.Font(name) for name in mono],
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        block_info_text_color="*neutral_600",
        input_background_fill="*neutral_50",
    )
    script = (PAGE_FILES / "page.js").read_text("utf-8")
    style = (PAGE_FILES / "page.css").read_text("utf-8") + code_style()  # in the head, where Gradio rewrites nothing
    return {
        "theme": theme,
        "head": f"<style>{style}</style><script>{script}</script>",
        "footer_links": [],
        "run_history": False,
        "show_error": False,
    }


# -- what is where ----------------------------------------------------------------------------------------------------


def _html(name: str, **options: Any) -> gr.HTML:
    return gr.HTML(elem_id=name, js_on_load=CLICKS_TO_EVENTS, apply_default_css=False, **options)


def _lay_out(texts: Texts) -> Page:
    with gr.Sidebar(position="left", width=290, elem_id="panel-list"):
        new = gr.Button(texts("new"), elem_id="new", variant="secondary")
        search = gr.Textbox(elem_id="search", label=texts("search"), placeholder=texts("search.hint"), max_lines=1)
        listing = _html("list")
    with gr.Column(elem_id="chat"):
        head = _html("head")
        with gr.Column(elem_id="log"):
            past = _html("past")
            live = _html("live")
        with gr.Column(elem_id="foot"):
            notice = _html("notice")
            files = _html("files")
            with gr.Row(elem_id="entry"):
                attach = gr.UploadButton("+", elem_id="attach", file_count="multiple", scale=0, min_width=44)
                box = gr.Textbox(
                    elem_id="box",
                    label=texts("box"),
                    show_label=False,
                    container=False,
                    placeholder=texts("box.hint"),
                    lines=1,
                    max_lines=12,
                    autofocus=True,
                    scale=1,
                )
                send = gr.Button(texts("send"), elem_id="send", variant="primary", scale=0, min_width=84)
                stop = gr.Button(texts("stop"), elem_id="stop", variant="stop", scale=0, min_width=84, visible=False)
    with gr.Sidebar(position="right", width=300, open=False, elem_id="panel-settings"):
        settings_title = gr.HTML(elem_id="settings-title", apply_default_css=False)
        system = gr.Textbox(elem_id="system", lines=3, max_lines=12)
        think = gr.Radio(list(THINKING), elem_id="think")
        sampling_title = gr.HTML(elem_id="sampling-title", apply_default_css=False)
        sampling = {name: _sampling_field(parameter) for name, parameter in SAMPLING.items()}
        reset = gr.Button(texts("sampling.reset"), elem_id="reset", size="sm")
        language = gr.Dropdown([(LANGUAGE_NAMES[code], code) for code in LANGUAGES], elem_id="language")
    dialogs = _html("dialogs")
    return Page(
        listing=listing,
        search=search,
        new=new,
        head=head,
        past=past,
        live=live,
        notice=notice,
        files=files,
        dialogs=dialogs,
        box=box,
        attach=attach,
        send=send,
        stop=stop,
        system=system,
        think=think,
        reset=reset,
        settings_title=settings_title,
        sampling_title=sampling_title,
        language=language,
        sampling=sampling,
    )


def _sampling_field(parameter: Parameter) -> Any:
    """Return a slider where there is a range, a switch for a switch, and a line of text for the rest."""
    name = f"sampling-{parameter.name}"
    if parameter.kind == "float" and parameter.low is not None and parameter.high is not None:
        low = parameter.low + 0.01 if parameter.above else parameter.low
        return gr.Slider(low, parameter.high, step=0.01, label=parameter.name, elem_id=name, buttons=[])
    if parameter.kind == "bool":
        return gr.Checkbox(label=parameter.name, elem_id=name)
    return gr.Textbox(label=parameter.name, elem_id=name, max_lines=1)


# -- which event does what --------------------------------------------------------------------------------------------


class Events:
    """What the page does. Every method runs in the server's event loop; what may block goes to a thread."""

    def __init__(self, pages: Pages, page: Page) -> None:
        self.pages = pages
        self.page = page

    def connect(self, blocks: gr.Blocks, start: list[Any]) -> None:
        """Say what happens at which event."""
        page, outputs = self.page, self.page.outputs()
        common: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "concurrency_limit": None,
            "trigger_mode": "multiple",
        }
        ask_browser = "() => [location.hash.slice(1), localStorage.getItem('language') || navigator.language]"
        blocks.load(self.opened, start, outputs, js=ask_browser, **common)
        blocks.unload(self.left)
        for html in (page.listing, page.head, page.past, page.notice, page.files, page.dialogs):
            html.act(self.acted, page.search, outputs, **common)
        gr.on([page.box.submit, page.send.click], self.sent, [page.box, page.search], outputs, **common)
        page.stop.click(self.stopped, None, None, queue=False, **common)
        page.new.click(self.begun, page.search, outputs, **common)
        page.search.input(self.searched, page.search, page.listing, **(common | {"trigger_mode": "always_last"}))
        page.attach.upload(self.attached, page.attach, [page.files, page.notice, page.attach], **common)
        page.system.blur(self.system_set, page.system, [page.notice, page.head], **common)
        page.think.input(self.thinking_set, page.think, page.notice, **common)
        page.language.input(self.language_set, [page.language, page.search], outputs, js=KEEP_LANGUAGE, **common)
        page.reset.click(self.sampling_reset, None, [*page.sampling.values(), page.reset, page.notice], **common)
        for name, control in page.sampling.items():
            changed = control.input if not isinstance(control, gr.Textbox) else control.blur
            setter, told = self._sampling_setter(name), [page.notice, page.reset]
            changed(setter, control, told, **(common | {"trigger_mode": "always_last"}))

    def _session(self, request: gr.Request) -> PageSession:
        try:
            return self.pages.session(request.username, str(request.session_hash))
        except ChatError as error:
            raise gr.Error(describe(error), print_exception=False) from error

    # -- coming and going ---------------------------------------------------------------------------------------

    async def opened(self, address: str, language: str, request: gr.Request) -> AsyncIterator[Updates]:
        """Show the conversation in the page's address, or a new one."""
        session = self._session(request)
        session.texts = Texts(choose_language(self.pages.settings, language or ""))

        def begin(session: PageSession) -> None:
            if address.startswith("c="):
                session.open(address[2:])

        await to_thread.run_sync(do, session, begin)
        yield await to_thread.run_sync(self._everything, session, "")
        async for updates in self._watch_loading(session):
            yield updates
        for _ in range(8):  # the page that was here before this one may still be writing, or just be leaving
            if await to_thread.run_sync(self._is_partial, session):
                await asyncio.sleep(IDLE_TICK_S)
                await to_thread.run_sync(do, session, lambda session: session.open(session.talk.conversation.id))
                yield await to_thread.run_sync(self._state, session, "")

    async def _watch_loading(self, session: PageSession) -> AsyncIterator[Updates]:
        """Show how far the model is until it is there, and then what it has as its own settings."""
        while session.is_loading() and not session.is_answering:
            await asyncio.sleep(IDLE_TICK_S)
            yield {self.page.head: self._head(session)}
        yield {self.page.head: self._head(session)} | self._model_settings(session)

    def _is_partial(self, session: PageSession) -> bool:
        tip = session.talk.conversation.tip
        is_open = tip is not None and (tip.status == "partial" or tip.role == "user")
        return is_open and not session.is_answering and self.pages.writer_of(session) is not None

    def left(self, request: gr.Request) -> None:
        """The page was closed."""
        self.pages.leave(request.username, str(request.session_hash))

    # -- events -------------------------------------------------------------------------------------------------

    async def acted(self, words: str, event: gr.EventData, request: gr.Request) -> AsyncIterator[Updates]:
        """Do what a button of our own HTML says."""
        data = event._data if isinstance(event._data, Mapping) else {}
        session = self._session(request)
        await to_thread.run_sync(act, session, data)
        async for updates in self._follow(session, words, with_settings=data.get("action") in ("open", "delete")):
            yield updates
        if data.get("action") == "reload":
            async for updates in self._watch_loading(session):
                yield updates

    async def begun(self, words: str, request: gr.Request) -> AsyncIterator[Updates]:
        """Begin a new conversation."""
        session = self._session(request)
        await to_thread.run_sync(act, session, {"action": "new"})
        async for updates in self._follow(session, words, with_settings=True):
            yield updates

    async def sent(self, text: str, words: str, request: gr.Request) -> AsyncIterator[Updates]:
        """Say what is in the box."""
        session = self._session(request)
        session.draft = ""
        await to_thread.run_sync(do, session, lambda session: session.send(text))
        async for updates in self._follow(session, words):
            yield updates

    def stopped(self, request: gr.Request) -> None:
        """End the answer under way."""
        self._session(request).stop()

    def searched(self, words: str, request: gr.Request) -> str:
        """List the conversations in which words occur."""
        return self._listing(self._session(request), words)

    def attached(self, paths: list[str] | None, request: gr.Request) -> Updates:
        """Read files that go with the next message, and say what they cost."""
        session = self._session(request)
        files = [Path(path) for path in paths or []]
        do(session, lambda session: session.attach(files))
        for file in files:
            file.unlink(missing_ok=True)
        page = self.page
        return {page.files: view.attached_html(session), page.notice: view.notice_html(session), page.attach: None}

    def system_set(self, text: str, request: gr.Request) -> Updates:
        """Replace the system message."""
        session = self._session(request)
        do(session, lambda session: session.set_system(text))
        return {self.page.notice: view.notice_html(session), self.page.head: self._head(session)}

    def thinking_set(self, mode: str, request: gr.Request) -> str:
        """Say whether the model thinks first."""
        session = self._session(request)
        do(session, lambda session: session.set_thinking(mode))
        return view.notice_html(session)

    def _sampling_setter(self, name: str) -> Callable[[Any, gr.Request], Updates]:
        def sampling_set(value: Any, request: gr.Request) -> Updates:
            session = self._session(request)
            session.notice = ""
            text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
            do(session, lambda session: session.set_sampling(name, text))
            return {self.page.notice: view.notice_html(session), self.page.reset: self._reset_label(session)}

        return sampling_set

    def sampling_reset(self, request: gr.Request) -> Updates:
        """Go back to the model's own."""
        session = self._session(request)
        do(session, lambda session: session.reset_sampling())
        return self._sampling(session) | {self.page.notice: view.notice_html(session)}

    async def language_set(self, language: str, words: str, request: gr.Request) -> Updates:
        """Speak another language."""
        session = self._session(request)
        session.texts = Texts("zh" if language == "zh" else "en")
        return await to_thread.run_sync(self._everything, session, words)

    # -- showing ------------------------------------------------------------------------------------------------

    async def _follow(self, session: PageSession, words: str, *, with_settings: bool = False) -> AsyncIterator[Updates]:
        """Show what has changed, and the answer under way as it grows."""
        answering = session.answering
        updates = await to_thread.run_sync(self._state, session, words)
        yield updates | (self._settings(session) if with_settings else {})
        if answering is None:
            return
        while not answering.is_over and session.answering is answering:
            yield {self.page.live: view.live_html(session)}
            if session.is_loading():
                yield {self.page.head: self._head(session)}
            num_characters = len(answering.answer.text) + len(answering.answer.reasoning)
            await asyncio.sleep(TICK_S * max(1.0, num_characters / SLOW_TICK_CHARACTERS))
        if session.answering not in (answering, None):
            return  # another answer is under way, and shown by whoever asked for it
        await to_thread.run_sync(do, session, lambda session: session.take_outcome())
        yield await to_thread.run_sync(self._state, session, words)

    def _everything(self, session: PageSession, words: str) -> Updates:
        return self._state(session, words) | self._settings(session) | self._labels(session.texts)

    def _state(self, session: PageSession, words: str) -> Updates:
        page = self.page
        updates: Updates = {
            page.past: view.transcript_html(session),
            page.live: view.live_html(session),
            page.head: self._head(session),
            page.notice: view.notice_html(session),
            page.files: view.attached_html(session),
            page.listing: self._listing(session, words),
            page.send: gr.update(value=session.texts("send"), visible=not session.is_answering),
            page.stop: gr.update(value=session.texts("stop"), visible=session.is_answering),
        }
        if session.draft is not None:
            updates[page.box] = session.draft
            session.draft = None
        return updates

    def _head(self, session: PageSession) -> str:
        return view.head_html(session, can_log_out=self.pages.people.needs_login)

    def _listing(self, session: PageSession, words: str) -> str:
        listed = [""]
        do(session, lambda session: listed.__setitem__(0, view.list_html(session, words)))
        return listed[0]

    def _settings(self, session: PageSession) -> Updates:
        texts, system = session.texts, session.talk.conversation.system
        shown = gr.update(value=system, label=texts("system"), info=texts("system.hint"))
        return {self.page.system: shown} | self._model_settings(session)

    def _model_settings(self, session: PageSession) -> Updates:
        texts, page = session.texts, self.page
        choices = [(texts(f"think.{mode}"), mode) for mode in THINKING]
        info = None if session.can_think or session.info() is None else texts("think.cannot")
        return {
            page.think: gr.update(choices=choices, value=session.thinking_mode, label=texts("think"), info=info),
        } | self._sampling(session)

    def _reset_label(self, session: PageSession) -> str:
        changed = len(session.sampling)
        return session.texts("sampling.reset.changed", n=changed) if changed else session.texts("sampling.reset")

    def _sampling(self, session: PageSession) -> Updates:
        updates: Updates = {self.page.reset: self._reset_label(session)}
        for name, parameter in SAMPLING.items():
            default, control = session.sampling_defaults.get(name), self.page.sampling[name]
            key = "sampling.range" if default is None else "sampling.own"
            info = session.texts(key, range=parameter.range, value=default)
            value = session.sampling.get(name)
            if isinstance(control, gr.Textbox):
                shown = "" if value is None else json.dumps(value, ensure_ascii=False)
            else:
                shown = next(known for known in (value, default, neutral_value(name)) if known is not None)
            updates[control] = gr.update(value=shown, info=info)
        return updates

    def _labels(self, texts: Texts) -> Updates:
        page = self.page
        return {
            page.new: texts("new"),
            page.search: gr.update(label=texts("search"), placeholder=texts("search.hint")),
            page.box: gr.update(label=texts("box"), placeholder=texts("box.hint")),
            page.language: gr.update(label=texts("language"), value=texts.language),
            page.settings_title: view.title_html(texts("settings")),
            page.sampling_title: view.title_html(texts("sampling")),
            page.dialogs: view.dialog_html(texts),
        }
