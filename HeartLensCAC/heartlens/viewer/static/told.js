// What the reader is told in the band above the page: it stays until the reader closes it, or could read it and went on.

import { $, ofLeft } from "./dom.js";

export class Told {
  constructor() {
    Object.assign(this, { texts: [], gone: 0 });
  }

  /** How much was told so far. */
  get count() {
    return this.gone + this.texts.length;
  }

  get isEmpty() {
    return !this.texts.length;
  }

  tell(text) {
    this.texts.push(text);
    this._draw();
  }

  /** Takes away what was told before there was so much; all of it without a number. */
  forget(count = this.count) {
    const read = Math.max(0, count - this.gone);
    this.texts.splice(0, read);
    this.gone += read;
    this._draw();
  }

  /** Another case takes the place of the one that this was told of. */
  leave() {
    this.texts = this.texts.map(ofLeft);
    this._draw();
  }

  _draw() {
    $("alertText").textContent = [...new Set(this.texts)].join(" ");
    $("alert").hidden = this.isEmpty;
  }
}
