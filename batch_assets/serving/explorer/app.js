// Routes, search, freshness and keys of the keyboard. Every view has an address of its own:
// #/<workload>, #/<workload>/predictions/<id>, #/<workload>/<entities>/<id>, #/<workload>/score.

import { AlertList } from "./alerts.js";
import { ask, forgetKey, hasKey } from "./api.js";
import { showEntity, showPrediction } from "./details.js";
import { h, age, announce, moment, outward, put, words } from "./dom.js";
import { address, problemBox } from "./parts.js";
import { showScoring } from "./scoring.js";
import { showOverview } from "./similar.js";

const LOOK_AGAIN = 15_000;
const byId = (id) => document.getElementById(id);
const [list, detail, status, query] = ["list", "detail", "status", "query"].map(byId);
const go = (parts, given) => {
  location.hash = address(parts, given);
};

let workloads = [];
let views = {};
let open = { path: null, update: null };
const alerts = new AlertList(list, (given) => {
  const { parts, query: now } = route();
  go(parts, { ...now, ...given });
});

function route() {
  const [path, text] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path
    .split("/")
    .filter(Boolean)
    .map((part) => {
      try {
        return decodeURIComponent(part);
      } catch {
        return part;
      }
    });
  return { parts, query: Object.fromEntries(new URLSearchParams(text ?? "")) };
}

/** Show what the address says. */
async function show() {
  const { parts, query: given } = route();
  const [name, kind, id] = parts;
  const workload = workloads.find((one) => one.name === name) ?? workloads[0];
  if (!workload) return;
  const path = parts.join("/");
  const moved = path !== open.path;
  markWorkload(workload);
  const listed = alerts.show(workload, given.day ?? null);
  document.body.dataset.view = kind ? "detail" : "list";
  if (!moved) {
    open.update?.(given, listed);
    return;
  }
  const before = open.path;
  open = { path, update: null };
  const root = h("div", {});
  detail.replaceChildren(root);
  if (kind === "predictions" && id) open.update = showPrediction(root, workload, id, given, go);
  else if (workload.entities[kind] && id)
    open.update = showEntity(root, workload, kind, id, given, go);
  else if (kind === "score") showScoring(root, workload, given, go);
  else open.update = welcome(root, workload, listed, given, kind !== undefined);
  if (kind) detail.prepend(closing(workload, given));
  document.title = [
    id ?? (kind === "score" ? "Score now" : "Alerts"),
    workload.title,
    "Explorer",
  ].join(" · ");
  alerts.mark(kind === "predictions" ? id : null);
  if (before === null) return;
  window.scrollTo(0, 0);
  if (kind) byId("detail-title")?.focus({ preventScroll: true });
  else if (document.activeElement === document.body || detail.contains(document.activeElement))
    alerts.focus();
}

function closing(workload, given) {
  return h(
    "a",
    {
      class: "close",
      href: address([workload.name], { day: given.day }),
      "aria-keyshortcuts": "Escape",
    },
    "Close",
  );
}

function welcome(root, workload, listed, given, unknown) {
  const kinds = [
    workload.words.one,
    ...Object.values(workload.entities).map((name) =>
      name.replace(/_id$/, "").replaceAll("_", " "),
    ),
  ];
  const map = h("div", {});
  put(
    root,
    h("h2", { id: "detail-title", tabindex: -1 }, workload.title),
    unknown ? h("p", { class: "notice" }, "This address leads nowhere here.") : null,
    h(
      "p",
      {},
      `Choose an alert to see why its score is high and what it is like, or find a ${kinds.slice(0, -1).join(", ")} or ${kinds.at(-1)} by its id.`,
    ),
    workload.offers.score
      ? h(
          "p",
          {},
          h(
            "a",
            { href: address([workload.name, "score"]) },
            `Score one ${workload.words.one} now`,
          ),
          ", which no batch has seen.",
        )
      : null,
    map,
  );
  const draw = (now, rows) => showOverview(map, workload, rows, now, go);
  if (!workload.offers.map || !workload.offers.alerts || !workload.days?.newest) return null;
  draw(given, listed);
  return draw;
}

function markWorkload(workload) {
  byId("home").href = address([workload.name]);
  byId("query-label").textContent = `Find a ${workload.words.one}, ${Object.values(
    workload.entities,
  )
    .map((name) => name.replace(/_id$/, ""))
    .join(" or ")} by id`;
  const links = workloads.map((one) =>
    h(
      "a",
      {
        href: address([one.name]),
        "aria-current": one === workload ? "page" : null,
      },
      one.title,
    ),
  );
  const scoring = workload.offers.score
    ? h(
        "a",
        {
          href: address([workload.name, "score"]),
          "aria-current": route().parts[1] === "score" ? "page" : null,
        },
        "Score now",
      )
    : null;
  byId("workloads").replaceChildren(...links, ...(scoring ? [scoring] : []));
}

/** Find an id among rows and entities. */
async function find(event) {
  event.preventDefault();
  const id = query.value.trim();
  const workload = workloads.find((one) => one.name === route().parts[0]) ?? workloads[0];
  if (!id || !workload) return;
  const said = byId("found");
  said.textContent = "Looking …";
  const entity = (name) =>
    ask(`v1/${workload.name}/${name}/${encodeURIComponent(id)}?limit=1`).then(
      () => name,
      (error) => {
        if (error.status === 404 || error.status === 422) return null;
        throw error;
      },
    );
  try {
    const row = await ask(`v1/${workload.name}/predictions:batch`, { body: { ids: [id] } });
    const kinds = row.predictions.length
      ? ["predictions"]
      : await Promise.all(Object.keys(workload.entities).map(entity));
    const found = kinds.filter(Boolean);
    if (query.value.trim() !== id) return;
    if (found.length === 0) {
      said.textContent = `Nothing here has the id ${id}, or it is not scored yet.`;
    } else if (found.length === 1) {
      said.textContent = "";
      go([workload.name, found[0], id], { day: route().query.day });
    } else {
      said.replaceChildren(
        "Several have this id: ",
        ...found.flatMap((name) => [
          h("a", { href: address([workload.name, name, id]) }, words(name)),
          " ",
        ]),
      );
    }
  } catch (error) {
    said.textContent = `${error.title ?? "That went wrong"}: ${error.detail ?? error.message}`;
  }
}

/** How fresh all is; new results are shown as they come. */
async function look() {
  const workload = workloads.find((one) => one.name === route().parts[0]) ?? workloads[0];
  try {
    const fresh = (await ask("v1/freshness")).workloads;
    const now = fresh.find((one) => one.workload === workload.name) ?? fresh[0];
    put(status, freshness(workload, now));
    const news = views[now.workload] !== undefined && views[now.workload] !== now.view;
    views = Object.fromEntries(fresh.map((one) => [one.workload, one.view]));
    if (news) {
      workloads = (await ask("v1")).workloads;
      await alerts.show(
        workloads.find((one) => one.name === workload.name),
        route().query.day ?? null,
        true,
      );
      announce("New results have arrived; the alerts are up to date.");
    }
  } catch (error) {
    status.replaceChildren(
      h("span", { class: "badge stale" }, error.title ?? "Unknown"),
      h("span", {}, error.detail ?? error.message),
    );
  }
  byId("forget").hidden = !hasKey();
}

function freshness(workload, now) {
  return [
    now.stale
      ? h("strong", { class: "badge stale" }, "stale")
      : h("span", { class: "badge fresh" }, "fresh"),
    h("span", {}, "newest day ", h("b", {}, now.newest_day ?? "none")),
    h(
      "span",
      { title: moment(now.confirmed_at) },
      `changed ${age(now.age_seconds)}`,
      h("span", { class: "note" }, ` (${now.policy_hours} h allowed)`),
    ),
    h("span", {}, "model ", h("code", {}, now.model_version ?? "none")),
    workload.lineage
      ? h("span", {}, outward(`${workload.lineage}?view=lineage`, "Lineage in Dagster"))
      : null,
  ];
}

function keys(event) {
  if (
    event.defaultPrevented ||
    event.altKey ||
    event.ctrlKey ||
    event.metaKey ||
    byId("key-dialog").open
  )
    return;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "/" && !typing) {
    event.preventDefault();
    query.focus();
    query.select();
  } else if (event.key === "Escape") {
    if (event.target === query) {
      query.value = "";
      byId("found").textContent = "";
      query.blur();
    } else if (typing) {
      event.target.blur();
    } else if (route().parts[1]) {
      go(route().parts.slice(0, 1), { day: route().query.day });
    }
  }
}

async function start() {
  try {
    workloads = (await ask("v1")).workloads;
    if (!workloads.length) throw new Error("this server serves no workload");
  } catch (error) {
    list.replaceChildren(h("h2", { id: "list-title" }, "Alerts"), problemBox(error, start));
    return;
  }
  await Promise.all([show(), look()]);
}

for (const link of document.querySelectorAll("a.skip")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const target = byId(link.hash.slice(1));
    if (target === list) alerts.focus();
    else (byId("detail-title") ?? target).focus();
  });
}
// The list stays in sight below the header, however high that is.
new ResizeObserver(([entry]) => {
  document.documentElement.style.setProperty("--head", `${entry.target.offsetHeight}px`);
}).observe(document.querySelector("header"));
byId("search").addEventListener("submit", find);
byId("forget").addEventListener("click", () => {
  forgetKey();
  location.reload();
});
document.addEventListener("keydown", keys);
window.addEventListener("hashchange", show);
setInterval(() => document.visibilityState === "visible" && workloads.length && look(), LOOK_AGAIN);
document.addEventListener(
  "visibilitychange",
  () => document.visibilityState === "visible" && workloads.length && look(),
);
start();
