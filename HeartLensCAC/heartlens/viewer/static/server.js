// Talks to the server that gave this page; the token of its address stays in this tab.

import { keep, kept } from "./dom.js";

const KEY = "heartlens-token";

/** What went wrong, in a sentence for the reader. */
export class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** The token of the address, or of this tab from before it was loaded again. */
export function takeToken() {
  const given = location.hash.slice(1);
  if (given) {
    keep("sessionStorage", KEY, given);
    history.replaceState(null, "", location.pathname + location.search); // not into bookmarks, not over a shoulder
  }
  return given || kept("sessionStorage", KEY);
}

const token = takeToken();

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { "X-HeartLens-Token": token } });
  } catch {
    throw new Refusal(0, "The server does not answer. Every edit that it answered is kept; start heartlens review again.");
  }
  if (answer.ok) return answer;
  let text = `The server answered ${answer.status}.`;
  try {
    text = (await answer.json()).error || text;
  } catch { /* an answer without words */ }
  throw new Refusal(answer.status, text);
}

export const getJson = async (path) => (await ask(path)).json();

export const post = async (path, words) => (await ask(path, { method: "POST", body: JSON.stringify(words) })).json();

export const getStream = (path) => ask(path);

/** Saves a file of an export under its name. */
export async function download(path, name) {
  const url = URL.createObjectURL(await (await ask(path)).blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
