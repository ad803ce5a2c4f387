"use strict";
/* Three planes of two scans; a click in one asks the matcher for the same place in the other. RAS mm everywhere. */

const PLANES = [
  { name: "axial", across: 0, up: 1, through: 2, letters: ["R", "L", "A", "P"] },
  { name: "coronal", across: 0, up: 2, through: 1, letters: ["R", "L", "S", "I"] },
  { name: "sagittal", across: 1, up: 2, through: 0, letters: ["A", "P", "S", "I"] },
];
const KEPT_SLICES = 300;
const byId = (id) => document.getElementById(id);
const state = { scans: [], window: null, asked: 0, busy: false, waiting: null };

function indexOf(scan, point) {
  return point.map((mm, axis) => (mm - scan.origin_mm[axis]) / scan.spacing_mm[axis]);
}

function pointOf(scan, index) {
  return index.map((i, axis) => scan.origin_mm[axis] + i * scan.spacing_mm[axis]);
}

function voxelOf(scan, axis) {
  const index = Math.round(indexOf(scan, scan.point)[axis]);
  return Math.min(Math.max(index, 0), scan.shape[axis] - 1);
}

function text(point) {
  return point.map((mm) => mm.toFixed(1)).join(", ");
}

async function sliceOf(scan, plane) {
  const at = voxelOf(scan, plane.through);
  const [low, high] = state.window;
  const path = `slice/${scan.number}/${plane.name}/${at}?low=${low}&high=${high}`;
  if (!scan.slices.has(path)) {
    if (scan.slices.size > KEPT_SLICES) scan.slices.delete(scan.slices.keys().next().value);
    scan.slices.set(path, fetch(path).then(async (answer) => {
      if (!answer.ok) throw new Error("slice");
      const grey = new Uint8Array(await answer.arrayBuffer());
      const picture = document.createElement("canvas");
      picture.width = scan.shape[plane.across];
      picture.height = scan.shape[plane.up];
      const pixels = new ImageData(picture.width, picture.height);
      for (let n = 0; n < grey.length; n += 1) {
        pixels.data[4 * n] = pixels.data[4 * n + 1] = pixels.data[4 * n + 2] = grey[n];
        pixels.data[4 * n + 3] = 255;
      }
      picture.getContext("2d").putImageData(pixels, 0, 0);
      return picture;
    }).catch(() => { scan.slices.delete(path); return null; }));
  }
  return scan.slices.get(path);
}

async function draw(scan, plane) {
  const canvas = scan.canvases[plane.name];
  const turn = (canvas.turn = (canvas.turn || 0) + 1);
  const picture = await sliceOf(scan, plane);
  if (turn !== canvas.turn || !picture) return; // a later call draws
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const index = indexOf(scan, scan.point);
  const x = canvas.width * (1 - (index[plane.across] + 0.5) / scan.shape[plane.across]);
  const y = canvas.height * (1 - (index[plane.up] + 0.5) / scan.shape[plane.up]);
  context.strokeStyle = scan.doubtful ? "#ff7b72" : "#ffd54a";
  context.setLineDash(scan.doubtful ? [5, 4] : []);
  context.lineWidth = 1;
  const gap = 7;
  context.beginPath();
  for (const [a, b, c, d] of [[0, y, x - gap, y], [x + gap, y, canvas.width, y], [x, 0, x, y - gap], [x, y + gap, x, canvas.height]]) {
    context.moveTo(a, b);
    context.lineTo(c, d);
  }
  context.stroke();
  context.fillStyle = "#fff";
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  const [left, right, top, bottom] = plane.letters;
  for (const [letter, at, down, align] of [[left, 4, canvas.height / 2, "left"], [right, canvas.width - 4, canvas.height / 2, "right"],
    [top, canvas.width / 2, 9, "center"], [bottom, canvas.width / 2, canvas.height - 9, "center"]]) {
    context.textAlign = align;
    context.fillText(letter, at, down);
  }
  canvas.parentElement.querySelector("figcaption").textContent = `${plane.name}, ${"xyz"[plane.through]} = ${scan.point[plane.through].toFixed(1)} mm`;
}

function show(scan) {
  PLANES.forEach((plane) => draw(scan, plane));
  byId(`place-${scan.number}`).textContent = `${text(scan.point)} mm`;
  document.body.dataset[`point${scan.number}`] = scan.point.map((mm) => mm.toFixed(2)).join(",");
}

/* One request at a time; while it runs only the latest click is kept. */
async function ask(number, point) {
  if (state.busy) { state.waiting = [number, point]; return; }
  state.busy = true;
  byId("answer").textContent = "Matching …";
  let answer;
  try {
    const reply = await fetch(`match?scan=${number}&x=${point[0]}&y=${point[1]}&z=${point[2]}`);
    answer = await reply.json();
  } catch {
    answer = { error: "alice view has stopped: start it again" };
  }
  state.busy = false;
  if (state.waiting) { const next = state.waiting; state.waiting = null; ask(...next); return; }
  tell(number, answer);
}

function tell(number, answer) {
  const box = byId("answer");
  const other = state.scans[1 - number];
  state.asked += 1;
  document.body.dataset.answered = String(state.asked);
  box.className = "";
  if (answer.error) { box.textContent = answer.error; return; }
  if (!answer.inside) { box.textContent = "This point lies in air or outside the body and cannot be matched."; return; }
  other.point = answer.point_ras_mm;
  other.doubtful = !answer.accepted;
  show(other);
  box.className = answer.accepted ? "accepted" : "doubtful";
  let sure = answer.certainty === null ? "" : `, certainty of the map ${answer.certainty.toFixed(2)}`;
  if (answer.expected_error_mm !== null) sure += `, expected error ${answer.expected_error_mm.toFixed(0)} mm`;
  let message = `${answer.accepted ? "Match" : "Match not accepted, do not rely on it"}: ${text(answer.point_ras_mm)} mm in ${other.title}.\n`;
  message += `Similarity ${answer.similarity.toFixed(2)}, cycle error ${answer.cycle_mm.toFixed(1)} mm${sure}.`;
  if (answer.same_anatomy === false) message += " The two scans hardly show the same anatomy.";
  box.textContent = message;
}

function moveTo(scan, point) {
  scan.point = point;
  scan.doubtful = false;
  show(scan);
  ask(scan.number, point);
}

function pointAt(scan, plane, canvas, event) {
  const box = canvas.getBoundingClientRect();
  const index = indexOf(scan, scan.point);
  const share = (value) => Math.min(Math.max(value, 0), 1);
  index[plane.across] = (1 - share((event.clientX - box.left) / box.width)) * scan.shape[plane.across] - 0.5;
  index[plane.up] = (1 - share((event.clientY - box.top) / box.height)) * scan.shape[plane.up] - 0.5;
  return pointOf(scan, index);
}

function step(scan, axis, by) {
  const index = indexOf(scan, scan.point);
  index[axis] = Math.min(Math.max(index[axis] + by, 0), scan.shape[axis] - 1);
  moveTo(scan, pointOf(scan, index));
}

function listen(scan, plane, canvas) {
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    moveTo(scan, pointAt(scan, plane, canvas, event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) moveTo(scan, pointAt(scan, plane, canvas, event));
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    step(scan, plane.through, event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = {
      ArrowLeft: [plane.across, 1], ArrowRight: [plane.across, -1], ArrowUp: [plane.up, 1], ArrowDown: [plane.up, -1],
      PageUp: [plane.through, 1], PageDown: [plane.through, -1],
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    step(scan, ...moves[event.key]);
  });
}

function build(scan, scale) {
  const row = byId(`planes-${scan.number}`);
  byId(`title-${scan.number}`).textContent = scan.title;
  for (const plane of PLANES) {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(scan.shape[plane.across] * scan.spacing_mm[plane.across] * scale);
    canvas.height = Math.round(scan.shape[plane.up] * scan.spacing_mm[plane.up] * scale);
    canvas.id = `${plane.name}-${scan.number}`;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${plane.name} plane of ${scan.title}; arrows move the crosshair, page up and down the plane`);
    figure.append(canvas, document.createElement("figcaption"));
    row.append(figure);
    scan.canvases[plane.name] = canvas;
    listen(scan, plane, canvas);
  }
}

async function begin() {
  const about = await (await fetch("scans")).json();
  state.scans = about.scans.map((scan, number) => ({ ...scan, number, canvases: {}, slices: new Map(), doubtful: false }));
  const wide = (scan) => 2 * scan.shape[0] * scan.spacing_mm[0] + scan.shape[1] * scan.spacing_mm[1];
  const high = (scan) => Math.max(scan.shape[1] * scan.spacing_mm[1], scan.shape[2] * scan.spacing_mm[2]);
  const scale = Math.min(
    (window.innerWidth - 64) / Math.max(...state.scans.map(wide)),
    Math.max(window.innerHeight - 240, 300) / state.scans.map(high).reduce((a, b) => a + b),
  );
  state.scans.forEach((scan) => build(scan, scale));
  const windows = byId("window");
  for (const one of about.windows) {
    const option = document.createElement("option");
    option.textContent = one.name;
    option.value = `${one.low},${one.high}`;
    windows.append(option);
  }
  const setWindow = () => { state.window = windows.value.split(",").map(Number); };
  windows.addEventListener("change", () => { setWindow(); state.scans.forEach(show); });
  setWindow();
  byId("go").addEventListener("submit", (event) => {
    event.preventDefault();
    const point = byId("point").value.split(/[,;\s]+/).filter(Boolean).map(Number);
    if (point.length !== 3 || !point.every(Number.isFinite)) { byId("answer").textContent = "Three numbers are needed: x, y, z in RAS mm."; return; }
    moveTo(state.scans[0], point);
  });
  state.scans.forEach(show);
  moveTo(state.scans[0], state.scans[0].point);
}

begin();
