// What the page does in the browser beside Gradio: copying, the theme, keys, scrolling, the address, the two dialogs.
(() => {
  "use strict";
  const find = (selector) => document.querySelector(selector);
  const isShown = (element) => element && element.offsetParent !== null;

  // -- theme: the system's, unless another was chosen here --
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const showTheme = () => {
    const chosen = localStorage.getItem("theme");
    document.body.classList.toggle("dark", chosen ? chosen === "dark" : dark.matches);
  };
  const switchTheme = () => {
    localStorage.setItem("theme", document.body.classList.contains("dark") ? "light" : "dark");
    showTheme();
  };
  dark.addEventListener("change", showTheme);

  // -- copying: the text as it was written, not as it is shown --
  const copy = async (button) => {
    const isCode = button.dataset.copy === "code";
    const text = isCode
      ? button.closest(".code").querySelector("code").textContent
      : button.closest(".message").dataset.text;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 1500);
  };

  // -- dialogs --
  const openDialog = (name) => {
    const dialog = find(`#dialogs dialog[data-name="${name}"]`);
    const input = dialog.querySelector("input");
    if (input) input.value = find("#head h1").textContent;
    dialog.showModal();
  };
  const answerDialog = (dialog) => {
    const detail = { action: dialog.dataset.name, id: currentId() };
    if (dialog.querySelector("input")) detail.text = dialog.querySelector("input").value;
    dialog.close();
    dialog.parentElement.dispatchEvent(new CustomEvent("page-act", { detail }));
  };

  // -- the address names the conversation, so that reloading and bookmarks find it again --
  const currentId = () => find("#head .items")?.dataset.id || "";
  const showAddress = () => {
    if (!currentId()) return; // nothing has come yet
    const hasMessages = find("#head .items a[download]");
    const address = hasMessages ? `#c=${currentId()}` : location.pathname;
    if (location.hash !== (hasMessages ? address : "")) history.replaceState(null, "", address);
  };

  // -- scrolling: along with the answer, unless somebody has scrolled up to read --
  let follows = true;
  const watchLog = (log) => {
    log.addEventListener("scroll", () => {
      follows = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    });
    new MutationObserver(() => {
      if (follows) log.scrollTop = log.scrollHeight;
    }).observe(log, { childList: true, subtree: true, characterData: true });
  };

  // -- what has been opened by hand stays open when the text around it changes --
  const opened = new Set();
  const placeOf = (details) => {
    const message = details.closest(".message");
    const all = message ? [...message.querySelectorAll("details")] : [];
    return message ? `${message.dataset.id || "live"}/${all.indexOf(details)}` : "";
  };
  const reopen = () => {
    for (const details of document.querySelectorAll("#log details:not([open])")) {
      if (opened.has(placeOf(details))) details.open = true;
    }
  };

  document.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest?.(selector);
    const menu = find("#head details.menu[open]");
    if (menu && !menu.contains(event.target)) menu.open = false;
    else if (menu && on(".items button, .items a")) menu.open = false;
    if (on("[data-copy]")) copy(on("[data-copy]"));
    else if (on("[data-theme]")) switchTheme();
    else if (on("[data-dialog]")) openDialog(on("[data-dialog]").dataset.dialog);
    else if (on("[data-close]")) on("dialog").close();
    const summary = on("#log summary");
    if (summary) {
      const details = summary.parentElement;
      if (details.open) opened.delete(placeOf(details));
      else opened.add(placeOf(details));
    }
    if (on("#list [data-action=open], #new") && window.innerWidth < 768) closeList();
  });

  document.addEventListener("submit", (event) => {
    const dialog = event.target.closest("dialog");
    if (!dialog) return;
    event.preventDefault();
    answerDialog(dialog);
  });

  document.addEventListener("keydown", (event) => {
    // The Enter that ends the writing of a Chinese or Japanese word is not one that sends.
    if (event.key === "Enter" && (event.isComposing || event.keyCode === 229)) event.stopImmediatePropagation();
    if (event.key !== "Escape" || find("dialog[open]")) return;
    const menu = find("#head details.menu[open]");
    if (menu) menu.open = false;
    else if (isShown(find("#stop"))) find("#stop").click();
    else find("#notice [data-action=cancel-edit]")?.click();
  }, true);

  // -- Gradio builds the page after this script has run --
  const nameControls = () => {
    const label = (selector, text) => {
      for (const element of document.querySelectorAll(selector)) {
        if (text && element.getAttribute("aria-label") !== text) element.setAttribute("aria-label", text);
      }
    };
    const words = find("#dialogs .words")?.dataset || {};
    label("#panel-list .toggle-button", words.list);
    label("#panel-settings .toggle-button", words.settings);
    label("#attach, #attach button", words.attach);
    label("#attach input, input[type=file]", words.attach);
    label("#log", words.log);
    if (words.language) document.documentElement.lang = words.language;
    find("#log")?.setAttribute("role", "log");
    find("#log")?.setAttribute("aria-busy", String(isShown(find("#stop")) || false));
  };
  const closeList = () => find("#panel-list.open .toggle-button")?.click();
  // On a phone the list would lie over everything: it is closed at first. Gradio opens it whenever its part of the
  // page has come, which over a slow line is long after the rest, and is deaf to clicks for a moment after that.
  const closeListAtFirst = (wasOpen = false) => {
    const isOpen = Boolean(find("#panel-list.open"));
    if (isOpen) closeList();
    if (isOpen || !wasOpen) setTimeout(closeListAtFirst, 100, isOpen);
  };
  let watched = null;
  new MutationObserver(() => {
    const log = find("#log");
    if (log && log !== watched) {
      watched = log;
      watchLog(log);
      showTheme();
      if (window.innerWidth < 768) closeListAtFirst();
    }
    if (!log) return;
    reopen();
    showAddress();
    nameControls();
  }).observe(document, { childList: true, subtree: true });
})();
