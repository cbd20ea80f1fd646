// The slice of an earlier scan in which the place under the crosshair lies; it follows the axial image and edits nothing.

import { View } from "../images/view.js";
import { Labels, Volume } from "../images/volume.js";
import { Link } from "./link.js";

export class Earlier extends View {
  constructor(canvas, app) {
    super("axial", canvas, app);
    this.main = app;
    this.link = null;
  }

  /** No tool works here. */
  get isMain() {
    return false;
  }

  show(answer) {
    const { main } = this, volume = new Volume(answer.scan), undecided = new Set(answer.undecided);
    this.day = answer.day;
    this.link = new Link(answer.to_prior, main.volume, volume);
    this.app = Object.assign(Object.create(main), {
      volume, scan: answer.scan, labels: new Labels(volume, answer.runs, answer.arteries), selected: null, at: [0, 0, 0],
      lesion: (id) => ({ undecided: undecided.has(id) }), draw: () => main.draw(),
    });
    this.shown = "";
    return volume;
  }

  select(lesion) {
    if (this.link) this.app.selected = lesion;
  }

  /** A click is a place of the current scan. */
  voxel(u, v) {
    const { nk, nj, ni } = this.main.volume, at = this.link.toCurrent([this.place[0], v - 0.5, u - 0.5]).map(Math.round);
    return at.every((x, n) => x >= 0 && x < [nk, nj, ni][n]) ? at : null;
  }

  draw() {
    if (!this.link) return;
    const { main, canvas } = this, axial = main.views[0], { volume } = this.app;
    const [, dy, dx] = volume.spacing, [, , dxNow] = main.volume.spacing;
    this.place = this.link.toPrior(main.at);
    this.app.at = this.place.map((x, n) => Math.min([volume.nk, volume.nj, volume.ni][n] - 1, Math.max(0, Math.round(x))));
    const [, j, i] = this.link.toPrior([main.at[0], axial.v - 0.5, axial.u - 0.5]);
    const share = Math.min(canvas.clientWidth / axial.canvas.clientWidth, canvas.clientHeight / axial.canvas.clientHeight);
    const whole = Math.min(canvas.clientWidth / (volume.ni * dx), canvas.clientHeight / (volume.nj * dy));
    Object.assign(this, { u: i + 0.5, v: j + 0.5, zoom: ((axial.scale[0] / dxNow) * share) / whole }); // the same mm
    super.draw();
  }

  get isOutside() {
    const k = this.place[0];
    return k < -0.5 || k > this.app.volume.nk - 0.5;
  }

  pan(dx, dy) {
    const axial = this.main.views[0], share = axial.canvas.clientWidth / this.canvas.clientWidth;
    axial.pan(dx * share, dy * share);
  }

  zoomAt(factor) {
    const axial = this.main.views[0];
    axial.zoomAt(factor, ...axial.toCanvas(...axial.cross));
  }

  drawOver(c) {
    const { nk } = this.app.volume, lines = [`Prior${this.day ? `, ${this.day}` : ""}: slice ${this.app.at[0] + 1} of ${nk}`];
    if (!this.link.isKnown) lines.push("not linked: the hearts could not be laid on each other");
    else if (this.isOutside) lines.push("the prior scan does not show this place: its nearest slice");
    c.textAlign = "left";
    c.textBaseline = "top";
    lines.forEach((line, n) => {
      c.font = n ? "600 13px system-ui, sans-serif" : "650 15px system-ui, sans-serif";
      this.write(c, line, 8, 6 + 20 * n);
    });
    this.canvas.setAttribute("aria-label", lines.join("; "));
  }
}
