// Questions to the server, and what went wrong with them.

const KEY = "batch-assets-api-key";
let asking = null;

/** What a problem document says; status 0: nobody answered. */
export class Problem extends Error {
  constructor(status, title, detail, errors = [], kind = "") {
    super(title);
    Object.assign(this, { status, title, detail, errors, kind });
  }
}

/** JSON of a path such as "v1/freshness", relative to the page; with a body, by POST. */
export async function ask(path, { body, signal } = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { Accept: "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path.replace(/^\//, ""), {
      method: body ? "POST" : "GET",
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(
      0,
      "The server does not answer",
      "Is `batch-assets serve` running, and is this machine connected to it? " +
        "What is shown here may be out of date.",
    );
  }
  if (response.status === 401) {
    if (key === sessionStorage.getItem(KEY)) await askForKey(key !== null);
    return ask(path, { body, signal });
  }
  const content = await response.json().catch(() => null);
  if (response.ok && content !== null) return content;
  throw new Problem(
    response.status,
    content?.title ?? `The server answered ${response.status}`,
    content?.detail ?? "The answer was no JSON: is something between this page and the server?",
    Array.isArray(content?.errors) ? content.errors : [],
    String(content?.type ?? "")
      .split("#problem-")
      .at(-1),
  );
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

export function forgetKey() {
  sessionStorage.removeItem(KEY);
}

/** One dialog for all questions that wait for it. */
function askForKey(wasWrong) {
  asking ??= openDialog(wasWrong).finally(() => {
    asking = null;
  });
  return asking;
}

function openDialog(wasWrong) {
  const dialog = document.getElementById("key-dialog");
  const field = document.getElementById("key");
  document.getElementById("key-hint").textContent = wasWrong
    ? "The key that was used is unknown to the server, or revoked."
    : "Whoever runs it can make one: batch-assets keys create";
  field.value = "";
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    dialog.addEventListener(
      "close",
      () => {
        const given = field.value.trim();
        field.value = "";
        if (dialog.returnValue !== "use" || !given) {
          reject(new Problem(401, "No API key was given", "The server answers only with a key."));
          return;
        }
        sessionStorage.setItem(KEY, given);
        resolve();
      },
      { once: true },
    );
  });
}
