// What a pointer does in the axial image: look, assign, brush, eraser, cut, box; and wheel, window, pan and pinch in all.

import { runsOf } from "./images/volume.js";

const SLOP_PX = 3; // a click may move so far
const REACH_PX = 8; // so far from a lesion a click still means it
const MOST_VOXELS = 1e6; // the server takes no more
const TOUCH_STEP_PX = 14; // two fingers move a slice with each
const WHEEL_STEP_PX = 40; // a touchpad moves a slice with each; a wheel's notch is more, in one event
const WHEEL_REST_MS = 200; // after this a wheel begins anew, and its first event moves a slice however small it is
const WHEEL_UNIT_PX = [1, 33, 800]; // pixels, lines and pages

export const HINTS = {
  look: "Look: a click selects, and changes nothing.",
  assign: "Assign: a click gives the island to {artery}; Ctrl or Alt (by keys Shift+Space): only its part in this slice.",
  brush: "Brush: calcium under it goes to {artery}.",
  eraser: "Eraser: calcium under it belongs to no lesion.",
  cut: "Cut: what a line goes around leaves its lesion for {artery}; Alt: for no lesion. Needs the pointer.",
  box: "Box: all calcium in it goes to {artery}. Needs the pointer.",
};

export class Tools {
  constructor(app) {
    Object.assign(this, { app, name: "look", radius: 2, stroke: null, hover: null, pointers: new Map(), pinch: null, wheel: { sum: 0, at: -1e9 } });
  }

  /** Another case: a stroke that began in one before ends with it. */
  begin() {
    Object.assign(this, { stroke: null, pending: null, pinch: null, hover: null });
  }

  listen(view) {
    const { canvas } = view;
    const on = (name, act) => canvas.addEventListener(name, act, { passive: false });
    on("contextmenu", (e) => e.preventDefault());
    on("wheel", (e) => this._wheel(view, e));
    on("pointerdown", (e) => this._down(view, e));
    on("pointermove", (e) => this._move(view, e));
    on("pointerup", (e) => this._up(view, e));
    on("pointercancel", (e) => this._cancel(e));
    on("pointerleave", () => ((this.hover = null), this.app.draw()));
  }

  _wheel(view, event) {
    event.preventDefault();
    const moved = event.deltaY * WHEEL_UNIT_PX[event.deltaMode];
    if (!moved) return; // sideways
    if (event.ctrlKey) view.zoomAt(1.15 ** (-Math.max(-100, Math.min(100, moved)) / 100), event.offsetX, event.offsetY);
    else if (this._isWheelStep(moved, event.timeStamp)) this.app.step(view.kind, moved < 0 ? 1 : -1);
    this.app.draw();
  }

  /** Whether a wheel has moved on by a slice. */
  _isWheelStep(moved, now) {
    const { wheel } = this, isNew = now - wheel.at > WHEEL_REST_MS || Math.sign(wheel.sum) === -Math.sign(moved);
    wheel.at = now;
    wheel.sum = isNew ? moved : wheel.sum + moved;
    if (!isNew && Math.abs(wheel.sum) < WHEEL_STEP_PX) return false;
    wheel.sum = 0;
    return true;
  }

  _down(view, event) {
    view.canvas.focus({ preventScroll: true });
    view.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.pointers.size === 2) {
      this.stroke = null; // a second finger makes a gesture of it
      this.pinch = { ...this._spread(), y0: this._spread().y };
      return;
    }
    const [u, v] = view.at(event.offsetX, event.offsetY);
    const kind = { 1: "pan", 2: "window" }[event.button] || this._kindAt(view);
    this.stroke = {
      kind, view, from: [event.offsetX, event.offsetY], last: [event.offsetX, event.offsetY], line: [[u, v]],
      voxels: new Set(), isMoved: false, part: event.ctrlKey || event.altKey || event.metaKey, alt: event.altKey,
      window: [...this.app.window],
    };
    if (kind === "brush" || kind === "eraser") this._dab(u, v);
    this.app.draw();
  }

  _kindAt(view) {
    return view.isMain ? this.name : "look";
  }

  _move(view, event) {
    const { offsetX: x, offsetY: y } = event;
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, [x, y]);
    if (this.pinch && this.pointers.size === 2) return this._pinch(view);
    this.hover = view.isMain ? view.at(x, y) : null;
    const s = this.stroke;
    if (!s || s.view !== view) return this.app.draw();
    s.isMoved ||= Math.hypot(x - s.from[0], y - s.from[1]) > SLOP_PX;
    const [u, v] = view.at(x, y);
    if (s.kind === "pan" || (s.kind === "look" && s.isMoved && view.zoom > 1 && view.kind === "axial")) {
      view.pan(x - s.last[0], y - s.last[1]);
    } else if (s.kind === "window") {
      const [low, high] = s.window, center = (low + high) / 2 + (y - s.from[1]) * 2;
      const width = Math.max(20, high - low + (x - s.from[0]) * 3);
      this.app.setWindow([Math.round(center - width / 2), Math.round(center + width / 2)]);
    } else if (s.kind === "look" && view.kind !== "axial") {
      this.app.goTo(view.voxel(u, v));
    } else if (s.kind === "brush" || s.kind === "eraser") {
      const steps = Math.ceil(Math.hypot(x - s.last[0], y - s.last[1]) / 2) || 1, [a, b] = view.at(...s.last);
      for (let n = 1; n <= steps; n++) this._dab(a + ((u - a) * n) / steps, b + ((v - b) * n) / steps);
    } else s.line.push([u, v]);
    s.last = [x, y];
    this.app.draw();
  }

  _up(view, event) {
    this.pointers.delete(event.pointerId);
    if (this.pinch) {
      if (!this.pointers.size) this.pinch = null;
      return;
    }
    const s = this.stroke;
    this.stroke = null;
    if (!s || s.view !== view) return;
    const [u, v] = view.at(event.offsetX, event.offsetY);
    if (s.kind === "look" && !s.isMoved) this._look(view, u, v);
    else if (s.kind === "assign" && !s.isMoved) this.assignAt(view.voxel(u, v), s.part);
    else if (s.kind === "brush") this._send(s.voxels, this.app.active);
    else if (s.kind === "eraser") this._send(s.voxels, null);
    else if (s.kind === "cut") this._send(this._inside(s.line), s.alt ? null : this.app.active);
    else if (s.kind === "box") this._send(this._boxed(s.line[0], [u, v]), this.app.active);
    this.app.draw();
  }

  _cancel(event) {
    this.pointers.delete(event.pointerId);
    this.stroke = this.pinch = null;
    this.app.draw();
  }

  _spread() {
    const [[a, b], [c, d]] = this.pointers.values();
    return { distance: Math.hypot(a - c, b - d), x: (a + c) / 2, y: (b + d) / 2 };
  }

  /** Two fingers: apart and together zooms, up and down goes through the slices. */
  _pinch(view) {
    const now = this._spread(), ratio = now.distance / this.pinch.distance;
    if (Math.abs(Math.log(ratio)) > 0.06) {
      view.zoomAt(ratio, now.x, now.y);
      Object.assign(this.pinch, now);
    } else if (Math.abs(now.y - this.pinch.y0) > TOUCH_STEP_PX) {
      this.app.step(view.kind, now.y < this.pinch.y0 ? 1 : -1);
      this.pinch.y0 = now.y;
    }
    this.app.draw();
  }

  _look(view, u, v) {
    const voxel = view.voxel(u, v);
    if (!voxel) return;
    this.app.goTo(voxel);
    if (!view.isMain) return;
    const [k0, k1] = this.app.shownSlices;
    this.app.select(this.app.labels.near(k0, k1, v - 0.5, u - 0.5, REACH_PX / view.scale[0]), { jump: false });
  }

  /** An island to the active artery; in a slab, in the slice where it is brightest. */
  assignAt(voxel, part) {
    if (!voxel) return;
    const [k0, k1] = this.app.shownSlices;
    let [k, j, i] = voxel;
    for (let n = k0; n <= k1; n++) if (this.app.volume.hu(n, j, i) > this.app.volume.hu(k, j, i)) k = n;
    this.app.edit({ kind: "click", kji: [k, j, i], artery: this.app.active, part });
  }

  /** What the brush would mark at a point of the axial plane, on every slice that is shown. */
  _dab(u, v) {
    const { volume, labels } = this.app, [, dy, dx] = volume.spacing, [k0, k1] = this.app.shownSlices;
    const isEraser = this.stroke.kind === "eraser", ru = this.radius / dx, rv = this.radius / dy;
    for (let j = Math.max(0, Math.floor(v - rv)); j <= Math.min(volume.nj - 1, v + rv); j++) {
      for (let i = Math.max(0, Math.floor(u - ru)); i <= Math.min(volume.ni - 1, u + ru); i++) {
        const isUnder = Math.floor(u) === i && Math.floor(v) === j; // a small brush marks at least one
        if (!isUnder && Math.hypot((i + 0.5 - u) * dx, (j + 0.5 - v) * dy) > this.radius) continue;
        for (let k = k0; k <= k1; k++) {
          if (isEraser ? labels.at(k, j, i) : volume.isCalcium(k, j, i)) this.stroke.voxels.add(volume.flat(k, j, i));
        }
      }
    }
  }

  dabAtCross() {
    this.stroke = { kind: this.name, voxels: new Set() };
    const [, j, i] = this.app.at;
    this._dab(i + 0.5, j + 0.5);
    const { voxels } = this.stroke;
    this.stroke = null;
    this._send(voxels, this.name === "eraser" ? null : this.app.active);
  }

  /** Labeled voxels whose middle lies inside of a line, on every slice that is shown. */
  _inside(line) {
    const found = new Set(), { volume, labels } = this.app, [k0, k1] = this.app.shownSlices;
    for (let k = k0; k <= k1; k++) {
      for (const pixel of labels.bySlice.get(k)?.keys() || []) {
        const j = Math.floor(pixel / volume.ni), i = pixel % volume.ni;
        if (isInside(line, i + 0.5, j + 0.5)) found.add(volume.flat(k, j, i));
      }
    }
    return found;
  }

  _boxed([u0, v0], [u1, v1]) {
    const found = new Set(), { volume } = this.app, [k0, k1] = this.app.shownSlices;
    const span = (a, b, n) => [Math.max(0, Math.floor(Math.min(a, b))), Math.min(n - 1, Math.floor(Math.max(a, b)))];
    const [i0, i1] = span(u0, u1, volume.ni), [j0, j1] = span(v0, v1, volume.nj);
    for (let k = k0; k <= k1; k++) {
      for (let j = j0; j <= j1; j++) {
        for (let i = i0; i <= i1; i++) if (volume.isCalcium(k, j, i)) found.add(volume.flat(k, j, i));
      }
    }
    return found;
  }

  _send(voxels, artery) {
    if (!voxels.size) {
      this.app.say(`No calcium of ${this.app.volume.threshold} HU or more was marked.`);
      return;
    }
    if (voxels.size > MOST_VOXELS) {
      this.app.warn(`One edit may mark ${MOST_VOXELS} voxels, which is more than any heart's calcium; mark less.`);
      return;
    }
    this.pending = voxels;
    this.app.edit({ kind: "voxels", runs: runsOf(voxels), artery }).finally(() => {
      if (this.pending === voxels) this.pending = null;
    });
  }

  drawOver(c, view) {
    const { volume } = this.app, s = this.stroke, area = volume.nj * volume.ni, [su, sv] = view.scale;
    const marked = s?.voxels?.size ? s.voxels : this.pending;
    if (marked) {
      c.fillStyle = s?.kind === "eraser" ? "rgba(255,80,80,.6)" : "rgba(255,255,255,.6)";
      for (const flat of marked) {
        const pixel = flat % area;
        c.fillRect(...view.toCanvas(pixel % volume.ni, Math.floor(pixel / volume.ni)), su, sv);
      }
    }
    c.strokeStyle = "#fff";
    c.lineWidth = 1.2;
    c.setLineDash(s?.kind === "cut" || s?.kind === "box" ? [5, 4] : []);
    c.beginPath();
    if (s?.kind === "cut") s.line.forEach((point, n) => c[n ? "lineTo" : "moveTo"](...view.toCanvas(...point)));
    else if (s?.kind === "box" && s.line.length > 1) {
      const [a, b] = view.toCanvas(...s.line[0]), [d, e] = view.toCanvas(...s.line[s.line.length - 1]);
      c.rect(a, b, d - a, e - b);
    } else if (this.hover && (this.name === "brush" || this.name === "eraser")) {
      const radius = (this.radius / volume.spacing[2]) * su;
      c.arc(...view.toCanvas(...this.hover), Math.max(radius, 2), 0, 7);
    }
    c.stroke();
    c.setLineDash([]);
  }
}

/** Whether a point lies inside of a closed line, by how often a ray crosses it. */
export function isInside(line, x, y) {
  let inside = false;
  for (let n = 0, m = line.length - 1; n < line.length; m = n++) {
    const [a, b] = line[n], [c, d] = line[m];
    if (b > y !== d > y && x < ((c - a) * (y - b)) / (d - b) + a) inside = !inside;
  }
  return inside;
}
