// One image: a plane of the volume, its window, what lies over it, and where a pointer is in it.

const INK = { halo: "rgba(0,0,0,.75)", cross: "rgba(255,221,87,.75)", letter: "rgba(255,255,255,.85)" };
const ENDS = { axial: ["R", "L", "A", "P"], coronal: ["R", "L", "H", "F"], sagittal: ["A", "P", "H", "F"] };

export class View {
  constructor(kind, canvas, app) {
    Object.assign(this, { kind, canvas, app, zoom: 1, u: 0, v: 0, shown: "" });
    this.context = canvas.getContext("2d", { alpha: false });
    this.image = document.createElement("canvas");
    new ResizeObserver(() => this.app.draw()).observe(canvas);
  }

  /** Size of the plane in pixels, and of a pixel in mm. */
  get plane() {
    const { ni, nj, nk, spacing: [dz, dy, dx] } = this.app.volume;
    if (this.kind === "axial") return { nu: ni, nv: nj, du: dx, dv: dy };
    if (this.kind === "coronal") return { nu: ni, nv: nk, du: dx, dv: dz };
    return { nu: nj, nv: nk, du: dy, dv: dz };
  }

  /** Shows the whole plane, or a part of it as [u0, u1, v0, v1]. */
  fit(part) {
    const { nu, nv, du, dv } = this.plane;
    const [u0, u1, v0, v1] = part || [0, nu, 0, nv];
    this.u = (u0 + u1) / 2;
    this.v = (v0 + v1) / 2;
    const whole = Math.min(this.canvas.clientWidth / (nu * du), this.canvas.clientHeight / (nv * dv));
    const wanted = Math.min(this.canvas.clientWidth / ((u1 - u0) * du), this.canvas.clientHeight / ((v1 - v0) * dv));
    this.zoom = whole > 0 ? Math.max(1, wanted / whole) : 1;
  }

  /** CSS pixels of a plane's pixel. */
  get scale() {
    const { nu, nv, du, dv } = this.plane;
    const mm = Math.min(this.canvas.clientWidth / (nu * du), this.canvas.clientHeight / (nv * dv)) * this.zoom;
    return [mm * du, mm * dv];
  }

  /** Plane coordinates of a point of the canvas; whole numbers are the corners of pixels. */
  at(x, y) {
    const [su, sv] = this.scale;
    return [this.u + (x - this.canvas.clientWidth / 2) / su, this.v + (y - this.canvas.clientHeight / 2) / sv];
  }

  toCanvas(u, v) {
    const [su, sv] = this.scale;
    return [(u - this.u) * su + this.canvas.clientWidth / 2, (v - this.v) * sv + this.canvas.clientHeight / 2];
  }

  /** The voxel [k, j, i] at plane coordinates; null outside. */
  voxel(u, v) {
    const { nu, nv } = this.plane;
    if (u < 0 || v < 0 || u >= nu || v >= nv) return null;
    const [k, j, i] = this.app.at;
    const a = Math.floor(u), b = Math.floor(v);
    if (this.kind === "axial") return [k, b, a];
    return this.kind === "coronal" ? [this.app.volume.nk - 1 - b, j, a] : [this.app.volume.nk - 1 - b, a, i];
  }

  /** The crosshair in plane coordinates, at the middle of its voxel. */
  get cross() {
    const [k, j, i] = this.app.at;
    if (this.kind === "axial") return [i + 0.5, j + 0.5];
    const v = this.app.volume.nk - 1 - k + 0.5;
    return this.kind === "coronal" ? [i + 0.5, v] : [j + 0.5, v];
  }

  pan(dx, dy) {
    const [su, sv] = this.scale;
    this.u -= dx / su;
    this.v -= dy / sv;
  }

  zoomAt(factor, x, y) {
    const [u, v] = this.at(x, y);
    this.zoom = Math.min(40, Math.max(1, this.zoom * factor));
    const [a, b] = this.at(x, y);
    this.u += u - a;
    this.v += v - b;
  }

  draw() {
    const { canvas, context: c } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    this._extract();
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.fillStyle = "#000";
    c.fillRect(0, 0, width, height);
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { nu, nv } = this.plane, [su, sv] = this.scale, [x, y] = this.toCanvas(0, 0);
    c.imageSmoothingEnabled = this.kind !== "axial"; // what is marked voxel by voxel is shown voxel by voxel
    c.drawImage(this.image, x, y, nu * su, nv * sv);
    this._drawLesions(c);
    this._drawCross(c);
    this._drawEnds(c);
    this.drawOver(c);
  }

  /** Whether the tools work here. */
  get isMain() {
    return this.kind === "axial";
  }

  /** What lies over everything else. */
  drawOver(c) {
    if (!this.isMain) return;
    this.app.tools.drawOver(c, this);
    this._drawSlices(c);
  }

  write(c, text, x, y) {
    outlined(c, text, x, y, INK.letter);
  }

  _extract() {
    const { volume, window: [low, high], slab, at } = this.app;
    const [k0, k1] = volume.slab(at[0], slab);
    const slice = { axial: `${k0}-${k1}`, coronal: at[1], sagittal: at[2] }[this.kind];
    const wanted = [slice, low, high, volume.arrived].join();
    if (wanted === this.shown) return;
    this.shown = wanted;
    const { nu, nv } = this.plane, { ni, nj, nk } = volume;
    Object.assign(this.image, { width: nu, height: nv });
    const picture = this.image.getContext("2d").createImageData(nu, nv);
    const pixels = new Uint32Array(picture.data.buffer);
    const gray = grays(volume, low, high);
    if (this.kind === "axial") {
      const present = [];
      for (let k = k0; k <= k1; k++) if (volume.slices[k]) present.push(volume.slices[k]);
      if (present.length === 1) {
        const one = present[0];
        for (let n = 0; n < pixels.length; n++) pixels[n] = gray(one[n]);
      } else if (present.length) {
        for (let n = 0; n < pixels.length; n++) {
          let most = present[0][n];
          for (let s = 1; s < present.length; s++) if (present[s][n] > most) most = present[s][n];
          pixels[n] = gray(most);
        }
      }
    } else {
      for (let k = 0; k < nk; k++) {
        const one = volume.slices[k], row = (nk - 1 - k) * nu;
        if (!one) continue;
        if (this.kind === "coronal") for (let i = 0; i < ni; i++) pixels[row + i] = gray(one[at[1] * ni + i]);
        else for (let j = 0; j < nj; j++) pixels[row + j] = gray(one[j * ni + at[2]]);
      }
    }
    this.image.getContext("2d").putImageData(picture, 0, 0);
  }

  _drawLesions(c) {
    const { app } = this;
    if (!app.labels || !app.isTinted) return;
    const [k0, k1] = app.volume.slab(app.at[0], app.slab);
    const labeled = app.labels.plane(this.kind, app.at[this.kind === "coronal" ? 1 : 2], k0, k1);
    const { nu } = this.plane, shapes = new Map();
    for (const [pixel, lesion] of labeled) {
      let shape = shapes.get(lesion);
      if (!shape) shapes.set(lesion, (shape = { edges: new Path2D(), area: new Path2D(), right: -1, top: Infinity }));
      const u = pixel % nu, v = Math.floor(pixel / nu);
      const [x0, y0] = this.toCanvas(u, v), [x1, y1] = this.toCanvas(u + 1, v + 1);
      shape.area.rect(x0, y0, x1 - x0, y1 - y0);
      const edge = (other, a, b, d, e) => {
        if (labeled.get(other) === lesion) return;
        shape.edges.moveTo(a, b);
        shape.edges.lineTo(d, e);
      };
      edge(pixel - nu, x0, y0, x1, y0);
      edge(pixel + nu, x0, y1, x1, y1);
      edge(u === 0 ? -1 : pixel - 1, x0, y0, x0, y1);
      edge(u === nu - 1 ? -1 : pixel + 1, x1, y0, x1, y1);
      shape.right = Math.max(shape.right, x1);
      shape.top = Math.min(shape.top, y0);
    }
    for (const [lesion, shape] of shapes) {
      const row = app.lesion(lesion), artery = app.artery(app.labels.arteries[lesion]);
      if (row?.undecided) {
        c.fillStyle = hatch(c, artery.color);
        c.fill(shape.area);
      }
      const isSelected = app.selected === lesion;
      stroke(c, shape.edges, INK.halo, isSelected ? 5 : 3.2);
      if (isSelected) stroke(c, shape.edges, "#fff", 3.6);
      stroke(c, shape.edges, artery.color, 1.6);
      if (this.kind === "axial") {
        letters(c, `${lesion} ${artery.letters}${row?.undecided ? " ?" : ""}`, shape.right + 4, shape.top, artery.color);
      }
    }
  }

  _drawCross(c) {
    const [x, y] = this.toCanvas(...this.cross), w = this.canvas.clientWidth, h = this.canvas.clientHeight;
    const gap = this.kind === "axial" ? 26 : 10;
    c.strokeStyle = INK.cross;
    c.lineWidth = 1;
    c.beginPath();
    for (const [a, b, d, e] of [[0, y, x - gap, y], [x + gap, y, w, y], [x, 0, x, y - gap], [x, y + gap, x, h]]) {
      c.moveTo(Math.round(a) + 0.5, Math.round(b) + 0.5);
      c.lineTo(Math.round(d) + 0.5, Math.round(e) + 0.5);
    }
    c.stroke();
  }

  _drawEnds(c) {
    const w = this.canvas.clientWidth, h = this.canvas.clientHeight, [left, right, top, bottom] = ENDS[this.kind];
    c.font = "600 13px system-ui, sans-serif";
    c.textBaseline = "middle";
    c.textAlign = "center";
    for (const [text, x, y] of [[left, 12, h / 2], [right, w - 24, h / 2], [top, w / 2, 12], [bottom, w / 2, h - 12]]) {
      outlined(c, text, x, y, INK.letter);
    }
  }

  /** Beside the image, head up: which slices were seen, where lesions lie, and where one is. */
  _drawSlices(c) {
    const { app } = this, x = this.canvas.clientWidth - 10, h = this.canvas.clientHeight - 16, { nk } = app.volume;
    const y = (k) => 8 + (h * (nk - 1 - k)) / nk, step = Math.max(1, h / nk - 0.5);
    for (let k = 0; k < nk; k++) {
      c.fillStyle = app.looked.seen.has(k) ? "#7d8b99" : "#2d353d";
      c.fillRect(x, y(k), 5, step);
    }
    for (const row of app.state.lesions) {
      c.fillStyle = app.artery(row.artery).color;
      c.fillRect(x - 4, y(row.slices[1]), 3, y(row.slices[0]) - y(row.slices[1]) + step);
    }
    c.fillStyle = "#ffdd57";
    c.fillRect(x - 2, y(app.at[0]) - 1, 10, step + 2);
  }
}

const table = { key: "", colors: new Uint32Array(0x10000) };

/** From HU to a gray: looked up where HU are whole, which they mostly are. */
function grays(volume, low, high) {
  const factor = 255 / Math.max(1, high - low);
  const of = (hu) => {
    const g = hu <= low ? 0 : hu >= high ? 255 : ((hu - low) * factor) | 0;
    return 0xff000000 | (g << 16) | (g << 8) | g;
  };
  if (volume.Kind !== Int16Array) return of;
  const { colors } = table;
  if (table.key !== `${low}, ${high}`) {
    for (let hu = -0x8000; hu < 0x8000; hu++) colors[hu & 0xffff] = of(hu);
    table.key = `${low}, ${high}`;
  }
  return (hu) => colors[hu & 0xffff];
}

function stroke(c, path, color, width) {
  c.strokeStyle = color;
  c.lineWidth = width;
  c.lineCap = "square";
  c.stroke(path);
}

function outlined(c, text, x, y, color) {
  c.lineJoin = "round";
  c.strokeStyle = INK.halo;
  c.lineWidth = 3;
  c.strokeText(text, x, y);
  c.fillStyle = color;
  c.fillText(text, x, y);
}

function letters(c, text, x, y, color) {
  c.font = "600 13px system-ui, sans-serif";
  c.textAlign = "left";
  c.textBaseline = "bottom";
  outlined(c, text, x, y, color);
}

const patterns = new Map();

/** Oblique lines in a color: what nobody has decided yet. */
function hatch(c, color) {
  if (!patterns.has(color)) {
    const tile = Object.assign(document.createElement("canvas"), { width: 6, height: 6 });
    const t = tile.getContext("2d");
    t.strokeStyle = color;
    t.lineWidth = 1.4;
    for (const shift of [-6, 0, 6]) {
      t.moveTo(shift, 6);
      t.lineTo(shift + 6, 0);
    }
    t.stroke();
    patterns.set(color, c.createPattern(tile, "repeat"));
  }
  return patterns.get(color);
}
