// The same slice beside the axial image, with the outlines of another reading; it follows that image and edits nothing.

import { View } from "../images/view.js";

export class Beside extends View {
  constructor(canvas, app) {
    super("axial", canvas, app);
    this.main = app;
  }

  /** No tool works here: what is shown is somebody's reading, and done. */
  get isMain() {
    return false;
  }

  /** Shows a reading; `lesions` are drawn as selected. */
  show(reading, labels) {
    const undecided = new Set(reading.undecided);
    this.name = reading.name;
    this.app = Object.assign(Object.create(this.main), {
      labels, selected: null, lesion: (id) => ({ undecided: undecided.has(id) }), draw: () => this.main.draw(),
    });
    this.shown = "";
  }

  select(lesion) {
    this.app.selected = lesion;
  }

  draw() {
    const { zoom, u, v } = this.main.views[0];
    Object.assign(this, { zoom, u, v });
    super.draw();
  }

  pan(dx, dy) {
    super.pan(dx, dy);
    Object.assign(this.main.views[0], { u: this.u, v: this.v });
  }

  zoomAt(factor, x, y) {
    const axial = this.main.views[0];
    axial.zoomAt(factor, ...axial.toCanvas(...this.at(x, y)));
  }

  drawOver(c) {
    c.font = "650 15px system-ui, sans-serif";
    c.textAlign = "left";
    c.textBaseline = "top";
    this.write(c, `Reading ${this.name}`, 8, 6);
  }
}
