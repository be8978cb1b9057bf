// The list of a day's alerts: always there, beside what is open.

import { ask } from "./api.js";
import { h, announce, amount, count, put, score } from "./dom.js";
import { address, label, load } from "./parts.js";

const FIRST = 100;
const MOST = 1000;

export class AlertList {
  /**
   * @param root the section to fill
   * @param changed called with the query when another day was picked
   */
  constructor(root, changed) {
    this.root = root;
    this.changed = changed;
    this.limit = FIRST;
    this.answer = null;
    this.text = "";
    this.least = 0;
    root.addEventListener("keydown", (event) => this.#walk(event));
  }

  /** Show the alerts of a day; null: the newest. Gives what the API said, null if it did not. */
  show(workload, day, force = false) {
    const wanted = `${workload.name} ${day ?? ""}`;
    if (wanted !== this.wanted || force) this.shown = this.#show(workload, day, wanted);
    return this.shown;
  }

  async #show(workload, day, wanted) {
    if (wanted !== this.wanted) this.limit = FIRST;
    this.wanted = wanted;
    this.workload = workload;
    this.day = day;
    if (!this.frame || this.frameOf !== workload.name) this.#build();
    this.picker.value = day ?? workload.days?.newest ?? "";
    if (!workload.offers.alerts) {
      this.body.replaceChildren(
        h("p", { class: "note" }, "This workload has no alerts: find a row by its id."),
      );
      return null;
    }
    if (!workload.days?.newest) {
      this.body.replaceChildren(
        h(
          "p",
          { class: "note" },
          "Nothing is scored yet. Run `batch-assets run`; this page notices by itself.",
        ),
      );
      return null;
    }
    const query = new URLSearchParams({ limit: this.limit });
    if (day) query.set("day", day);
    const focused = this.#links().includes(document.activeElement)
      ? document.activeElement.dataset.key
      : null;
    const answer = await load(
      this.body,
      (signal) => ask(`v1/${workload.name}/alerts?${query}`, { signal }),
      (found) => {
        this.answer = found;
        return this.#rows();
      },
    );
    if (answer) {
      this.picker.value = answer.day;
      if (focused)
        (this.#links().find((link) => link.dataset.key === focused) ?? this.#links()[0])?.focus();
      announce(`${count(answer.alerts.length, "alert", "alerts")} of ${answer.day}`);
    }
    return answer;
  }

  /** Mark the row that is open. */
  mark(key) {
    this.chosen = key;
    for (const link of this.#links()) {
      const open = link.dataset.key === key;
      link.toggleAttribute("data-open", open);
      if (open) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    this.#roving(this.#links().find((link) => link.dataset.key === key));
  }

  /** Focus the row that was open, or the first, or the list itself. */
  focus() {
    const links = this.#links();
    (links.find((link) => link.dataset.key === this.chosen) ?? links[0] ?? this.root).focus();
  }

  #build() {
    const { workload } = this;
    this.frameOf = workload.name;
    const { first, newest } = workload.days ?? {};
    this.picker = h("input", {
      type: "date",
      id: "day",
      min: first,
      max: newest,
      required: true,
      onchange: () => this.picker.value && this.#pick(this.picker.value),
    });
    const step = (days) => () => {
      const at = new Date(`${this.picker.value}T00:00:00Z`);
      if (Number.isNaN(at.getTime())) return;
      at.setUTCDate(at.getUTCDate() + days);
      this.#pick(at.toISOString().slice(0, 10));
    };
    const narrow = h("input", {
      id: "narrow",
      type: "search",
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.#narrow(narrow.value, least.value),
    });
    const least = h("input", {
      id: "least",
      type: "number",
      min: 0,
      max: 1,
      step: 0.05,
      placeholder: "0",
      inputmode: "decimal",
      oninput: () => this.#narrow(narrow.value, least.value),
    });
    this.body = h("div", { id: "alerts" });
    this.frame = [
      h(
        "div",
        { class: "title" },
        h("h2", { id: "list-title" }, "Alerts"),
        h(
          "div",
          { class: "day" },
          h("button", { type: "button", "aria-label": "Day before", onclick: step(-1) }, "‹"),
          h("label", { for: "day", class: "hidden" }, "Day of the alerts"),
          this.picker,
          h("button", { type: "button", "aria-label": "Day after", onclick: step(1) }, "›"),
        ),
      ),
      h(
        "div",
        { class: "narrow" },
        h("label", { for: "narrow" }, "With"),
        narrow,
        h("label", { for: "least" }, "Score from"),
        least,
      ),
      this.body,
    ];
    this.root.replaceChildren(...this.frame);
  }

  #pick(day) {
    this.changed({ day: day === this.workload.days?.newest ? null : day });
  }

  #narrow(text, least) {
    this.text = text.trim().toLowerCase();
    this.least = Number(least) || 0;
    if (!this.answer) return;
    put(this.body, this.#rows());
    announce(count(this.#links().length, "alert", "alerts"));
  }

  #rows() {
    const { workload, answer } = this;
    const columns = [workload.key, ...Object.values(workload.entities)];
    const shown = answer.alerts.filter(
      (row) =>
        row[workload.score] >= this.least &&
        (!this.text ||
          [...columns.map((name) => row[name]), ...(row.reasons ?? [])].some((value) =>
            String(value ?? "")
              .toLowerCase()
              .includes(this.text),
          )),
    );
    if (!answer.alerts.length)
      return [h("p", { class: "note" }, `There are no alerts of ${answer.day}.`)];
    const cut = answer.alerts.length >= this.limit;
    const all = `${cut ? "the first " : ""}${count(answer.alerts.length, "alert", "alerts")}`;
    const list = h(
      "ol",
      { class: "alerts", "aria-label": `Alerts of ${answer.day}, highest score first` },
      shown.map((row) => h("li", {}, this.#row(row))),
    );
    const more =
      cut && this.limit < MOST
        ? h("button", { type: "button", onclick: () => this.#more() }, "Show more")
        : null;
    queueMicrotask(() => this.mark(this.chosen));
    return [
      h(
        "p",
        { class: "note" },
        answer.stale ? [h("strong", { class: "badge stale" }, "stale"), " "] : null,
        shown.length === answer.alerts.length ? all : `${shown.length} of ${all}`,
      ),
      shown.length
        ? list
        : h("p", { class: "note" }, "None contains that: shorten the text, or lower the score."),
      more,
    ];
  }

  #row(row) {
    const { workload } = this;
    const key = row[workload.key];
    const size = workload.ranges.find((name) => name !== workload.score && name in row);
    const unit = workload.columns[size]?.unit ?? "";
    const entities = Object.values(workload.entities).filter((name) => row[name]);
    return h(
      "a",
      {
        href: address([workload.name, "predictions", key], { day: this.day }),
        "data-key": key,
        tabindex: -1,
      },
      h(
        "span",
        { class: "score" },
        h("span", { class: "hidden" }, "score "),
        score(row[workload.score]),
      ),
      h(
        "span",
        { class: "who" },
        entities.map((name, n) =>
          h(
            "span",
            { class: n ? "note" : null },
            h("span", { class: n ? null : "hidden" }, `${label(workload, name).toLowerCase()} `),
            row[name],
          ),
        ),
        row.label === 1 ? h("strong", { class: "badge positive" }, workload.words.positive) : null,
      ),
      size ? h("span", { class: "amount" }, amount(row[size]), ` ${unit}`) : null,
      h(
        "ul",
        { class: "reasons" },
        (row.reasons ?? []).map((text) => h("li", {}, text)),
      ),
    );
  }

  async #more() {
    const at = this.#links().length;
    this.limit = MOST;
    await this.show(this.workload, this.day, true);
    this.#links()[at]?.focus();
  }

  #links() {
    return [...this.root.querySelectorAll("ol.alerts a")];
  }

  /** One of the rows can be reached by Tab; arrow keys reach the others. */
  #roving(link) {
    const links = this.#links();
    for (const one of links) one.tabIndex = -1;
    const reachable = link ?? links[0];
    if (reachable) reachable.tabIndex = 0;
  }

  #walk(event) {
    const links = this.#links();
    const at = links.indexOf(document.activeElement);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const link = links[Math.min(Math.max(to, 0), links.length - 1)];
    this.#roving(link);
    link.focus();
  }
}
