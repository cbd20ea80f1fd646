// What was on the screen long enough to be seen, and that the server hears of it.

import { post } from "./server.js";

const DWELL_MS = 100; // a slice that was shown for less was not seen
const SEND_MS = 1500;

export class Looked {
  constructor(app) {
    Object.assign(this, { app, seen: new Set(), slices: new Set(), lesions: new Set(), shown: "", timer: 0 });
    setInterval(() => this.flush(), SEND_MS);
  }

  /** Another case, of which some slices were seen before. */
  begin(slices) {
    this.seen = new Set(slices);
    this.shown = "";
    clearTimeout(this.timer);
  }

  /** These slices are on the screen now. */
  show(k0, k1) {
    if (this.shown === `${k0}-${k1}`) return;
    this.shown = `${k0}-${k1}`;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this._see(k0, k1), DWELL_MS);
  }

  visit(lesion) {
    this.lesions.add(lesion);
    const { viewed } = this.app.state;
    if (!viewed.lesions.includes(lesion)) viewed.lesions.push(lesion);
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

  async flush() {
    const { app, slices, lesions } = this;
    if (!app.state || (!slices.size && !lesions.size)) return;
    Object.assign(this, { slices: new Set(), lesions: new Set() });
    try {
      const answer = await post(`${app.base}/look`, { slices: [...slices], lesions: [...lesions] });
      Object.assign(app.state, { viewed: answer.viewed, look_through: answer.look_through });
      if (app.state.is_zero) app.panel.drawSign();
    } catch { // told at the next edit; what was seen is kept until then
      for (const k of slices) this.slices.add(k);
      for (const n of lesions) this.lesions.add(n);
    }
  }
}
