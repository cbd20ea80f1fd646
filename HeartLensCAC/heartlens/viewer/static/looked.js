// What was on the screen long enough to be seen, and that the server hears of it.

import { post } from "./server.js";

const DWELL_MS = 100; // a slice that was shown for less was not seen
const SEND_MS = 1500;

export class Looked {
  constructor(app) {
    Object.assign(this, {
      app, seen: new Set(), visited: new Set(), slices: new Set(), lesions: new Set(), // the last two: to be told
      shown: "", timer: 0, sending: Promise.resolve(),
    });
    setInterval(() => this.flush(), SEND_MS);
  }

  /** Another case, of which some slices and lesions were seen before. */
  begin({ slices, lesions }) {
    clearTimeout(this.timer);
    Object.assign(this, {
      seen: new Set(slices), visited: new Set(lesions), slices: new Set(), lesions: new Set(), shown: "",
    });
  }

  /** What the server knows; what it lost is told again. */
  compare({ slices, lesions }) {
    const known = { slices: new Set(slices), lesions: new Set(lesions) };
    for (const k of this.seen) if (!known.slices.has(k)) this.slices.add(k);
    for (const n of this.visited) if (!known.lesions.has(n)) this.lesions.add(n);
    for (const k of slices) this.seen.add(k);
    for (const n of lesions) this.visited.add(n);
  }

  /** These slices are on the screen now. */
  show(k0, k1) {
    if (this.shown === `${k0}-${k1}`) return;
    this.shown = `${k0}-${k1}`;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this._see(k0, k1), DWELL_MS);
  }

  visit(lesion) {
    if (this.visited.has(lesion)) return;
    this.visited.add(lesion);
    this.lesions.add(lesion);
  }

  _see(k0, k1) {
    for (let k = k0; k <= k1; k++) {
      if (!this.app.volume.slices[k]) this.shown = ""; // not there yet: looked at when it is
      else if (!this.seen.has(k)) {
        this.seen.add(k);
        this.slices.add(k);
      }
    }
    this.app.draw();
  }

  /** Tells, one after the other; `isAsking` also where there is nothing to tell, for what is left to look at. */
  flush({ isAsking = false } = {}) {
    this.sending = this.sending.then(() => this._tell(isAsking));
    return this.sending;
  }

  async _tell(isAsking) {
    const { app, slices, lesions } = this, { opened, base } = app;
    if (!app.state || (!isAsking && !slices.size && !lesions.size)) return;
    Object.assign(this, { slices: new Set(), lesions: new Set() });
    try {
      const answer = await post(`${base}/look`, { slices: [...slices], lesions: [...lesions] });
      if (opened !== app.opened) return;
      app.state.look_through = answer.look_through;
      if (app.state.is_zero) app.panel.drawSign();
    } catch { // told the next time; what was seen is kept until then
      if (opened !== app.opened) return;
      for (const k of slices) this.slices.add(k);
      for (const n of lesions) this.lesions.add(n);
    }
  }
}
