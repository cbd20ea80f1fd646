// Takes the place of server.js in a static copy: all answers lie in the file itself, and none of them changes.

const part = (id) => document.getElementById(id).textContent;

const { scan, state, heart } = JSON.parse(part("copied-case"));

export class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

export async function getJson(path) {
  if (path.endsWith("/heart")) return heart;
  return path.endsWith("/state") ? state : { scan, state, cases: 1 };
}

/** What was looked at is known as long as the page is open, and nowhere kept. */
export async function post(path) {
  if (!path.endsWith("/look")) throw new Refusal(0, "This is a read-only copy: nothing can be changed here.");
  return { look_through: "" };
}

export async function getStream() {
  if (!window.DecompressionStream) throw new Refusal(0, "This browser cannot unpack the images; open the copy in a current one.");
  const letters = atob(part("copied-voxels")), packed = new Uint8Array(letters.length);
  for (let n = 0; n < letters.length; n++) packed[n] = letters.charCodeAt(n); // Uint8Array.from takes seconds for this
  const body = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return { headers: new Headers({ "x-first-slice": "0" }), body };
}

export async function download() {
  throw new Refusal(0, "A read-only copy holds no other files.");
}
