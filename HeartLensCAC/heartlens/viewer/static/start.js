// Begins, where the browser can draw.

import { $, kept } from "./dom.js";
import { App } from "./main.js";

document.documentElement.dataset.theme = kept("localStorage", "heartlens-theme") || "dark"; // a reading room is
if (document.createElement("canvas").getContext?.("2d") && window.ResizeObserver && window.Path2D) {
  const app = new App();
  app.attempt(() => app.open(0));
} else {
  $("alertText").textContent = "This browser cannot draw the images (Canvas 2-D); open the page in a current one.";
  $("alert").hidden = false;
}
