// The page's own script: the place to drop a picture, and before and after under a slider.
// Gradio runs it for each of the two elements; the last line, which page.py adds, says which.

function chooser(element, trigger, upload) {
  const zone = element.querySelector(".ap-drop");
  const input = zone.querySelector("input");
  const image = zone.querySelector("img");
  const hint = zone.querySelector(".ap-hint");
  const name = zone.querySelector(".ap-name");
  let turn = 0;

  async function take(files) {
    const file = files[0];
    if (!file) return;
    const mine = ++turn;
    const more = files.length > 1 ? " (the first of " + files.length + ")" : "";
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(file); // shown before it has arrived; not all kinds can be
    image.hidden = false;
    image.onerror = () => { image.hidden = true; };
    hint.hidden = true;
    name.textContent = file.name + more + ": sending …";
    try {
      const sent = await upload(file);
      if (mine !== turn) return; // another one was chosen meanwhile
      name.textContent = file.name + more;
      trigger("upload", { path: sent.path, name: file.name });
    } catch (error) {
      if (mine === turn) name.textContent = file.name + ": could not be sent (" + error + ")";
    }
  }

  zone.addEventListener("click", (event) => {
    if (event.target !== input) input.click();
  });
  zone.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      input.click();
    }
  });
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // so that the same file can be chosen again
  });

  const holdsFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  let depth = 0; // dragenter and dragleave also come for every element inside
  const listen = (kind, act) => document.addEventListener(kind, (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    act(event);
    zone.classList.toggle("ap-over", depth > 0);
  });
  listen("dragenter", () => { depth += 1; });
  listen("dragleave", () => { depth = Math.max(0, depth - 1); });
  listen("dragover", () => {});
  listen("drop", (event) => {
    depth = 0;
    take([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    const files = [...((event.clipboardData && event.clipboardData.files) || [])];
    if (!files.length) return; // text goes where it was pasted
    event.preventDefault();
    take(files);
  });
}

// Says when the server is gone; Gradio alone would leave the last progress standing.
function heartbeat(element) {
  const gone = element.querySelector(".ap-gone");
  let missed = 0;
  async function ask() {
    try {
      missed = (await fetch("alive", { cache: "no-store" })).ok ? 0 : missed + 1;
    } catch (error) {
      missed += 1;
    }
    gone.hidden = missed < 2;
    document.body.classList.toggle("ap-lost", missed >= 2);
    setTimeout(ask, 2000);
  }
  ask();
}

function comparison(element) {
  const root = element.querySelector(".ap-compare");
  if (!root || root.dataset.ready) return;
  root.dataset.ready = "yes";
  const data = root.dataset;
  const width = Number(data.width), height = Number(data.height), side = Number(data.pieces);
  const port = root.querySelector(".ap-port");
  const line = root.querySelector(".ap-line");
  const range = root.querySelector("input[type=range]");
  const zoom = root.querySelector(".ap-zoom");
  const full = root.querySelector(".ap-full");
  const layers = ["before", "after"].map((which) => {
    const layer = root.querySelector(".ap-" + which);
    const image = document.createElement("img");
    image.src = data[which];
    image.alt = which;
    image.draggable = false;
    layer.append(image);
    return { which, layer, image, pieces: new Map() };
  });
  let split = 0.5, close = false, centre = [0.5, 0.5], seen = [0, 1];

  const scale = () => {
    if (close) return 1 / window.devicePixelRatio; // a pixel of the result on one of the screen
    const tall = document.fullscreenElement === root
      ? port.clientHeight : Math.max(240, window.innerHeight * 0.72);
    return Math.min(port.clientWidth / width, tall / height);
  };

  function draw() {
    const factor = scale();
    const wide = width * factor, high = height * factor;
    if (document.fullscreenElement === root) port.style.height = "";
    else port.style.height = Math.round(close ? Math.max(240, Math.min(high, window.innerHeight * 0.72)) : high) + "px";
    const room = [port.clientWidth, port.clientHeight];
    const grid = window.devicePixelRatio, box = port.getBoundingClientRect();
    const origin = [box.left, box.top];
    const place = [wide, high].map((size, axis) => {
      if (size <= room[axis]) {
        centre[axis] = 0.5;
      } else {
        const half = room[axis] / size / 2;
        centre[axis] = Math.min(1 - half, Math.max(half, centre[axis]));
      }
      const start = room[axis] / 2 - centre[axis] * size;
      // on whole pixels of the screen, else 1:1 would be blurred
      return Math.round((start + origin[axis]) * grid) / grid - origin[axis];
    });
    const left = Math.max(0, place[0]), right = Math.min(room[0], place[0] + wide);
    seen = [left, right - left]; // the part of the port that the picture covers
    const cut = left + split * (right - left) - place[0];
    for (const { which, layer, image, pieces } of layers) {
      Object.assign(layer.style, {
        left: place[0] + "px", top: place[1] + "px", width: wide + "px", height: high + "px",
        clipPath: which === "before" ? `inset(0 ${wide - cut}px 0 0)` : `inset(0 0 0 ${cut}px)`,
        imageRendering: close ? "pixelated" : "auto",
      });
      if (side) load(which, layer, pieces, factor, place, room);
    }
    line.style.left = place[0] + cut + "px";
    const [tagBefore, tagAfter] = root.querySelectorAll(".ap-tag");
    tagBefore.style.left = left + 8 + "px";
    tagAfter.style.right = room[0] - right + 8 + "px";
    const at = split * (right - left); // a tag without room on its side is not shown
    tagBefore.style.opacity = Number(at > tagBefore.offsetWidth + 16);
    tagAfter.style.opacity = Number(right - left - at > tagAfter.offsetWidth + 16);
    Object.assign(range.style, { marginLeft: left + "px", width: right - left + "px" });
    range.value = Math.round(split * 1000);
    port.classList.toggle("ap-close", close);
    zoom.textContent = close ? "Fit" : "1:1";
    zoom.setAttribute("aria-pressed", String(close));
  }

  function load(which, layer, pieces, factor, place, room) {
    for (const piece of pieces.values()) piece.hidden = !close;
    if (!close) return;
    const first = place.map((at) => Math.max(0, Math.floor(-at / factor / side)));
    const last = place.map((at, axis) => Math.floor((room[axis] - at) / factor / side));
    for (let row = first[1]; row <= Math.min(last[1], Math.ceil(height / side) - 1); row += 1) {
      for (let column = first[0]; column <= Math.min(last[0], Math.ceil(width / side) - 1); column += 1) {
        const key = `${row}-${column}`;
        if (pieces.has(key)) continue;
        const piece = document.createElement("img");
        piece.src = `${data.folder}/${which}-${key}.png`;
        piece.alt = "";
        piece.draggable = false;
        piece.className = "ap-piece";
        Object.assign(piece.style, {
          left: column * side * factor + "px", top: row * side * factor + "px",
          width: Math.min(side, width - column * side) * factor + "px",
          height: Math.min(side, height - row * side) * factor + "px",
        });
        pieces.set(key, piece);
        layer.append(piece);
      }
    }
  }

  function turnZoom(at) {
    close = !close;
    if (close && at) {
      const box = layers[0].layer.getBoundingClientRect();
      centre = [(at.clientX - box.left) / box.width, (at.clientY - box.top) / box.height];
    }
    draw();
  }

  let held = null; // what the pointer moves, and from where
  const moveSplit = (event) => {
    const box = port.getBoundingClientRect();
    split = Math.min(1, Math.max(0, (event.clientX - box.left - seen[0]) / seen[1]));
  };
  port.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const box = port.getBoundingClientRect();
    const near = Math.abs(event.clientX - box.left - seen[0] - split * seen[1]) < 24;
    held = { pan: close && !near, x: event.clientX, y: event.clientY, centre: [...centre] };
    port.setPointerCapture(event.pointerId);
    if (!held.pan) moveSplit(event);
    draw();
  });
  port.addEventListener("pointermove", (event) => {
    if (!held) return;
    if (held.pan) {
      const factor = scale();
      centre = [held.centre[0] - (event.clientX - held.x) / (width * factor),
        held.centre[1] - (event.clientY - held.y) / (height * factor)];
    } else {
      moveSplit(event);
    }
    draw();
  });
  for (const kind of ["pointerup", "pointercancel"]) port.addEventListener(kind, () => { held = null; });
  port.addEventListener("dblclick", (event) => turnZoom(event));
  range.addEventListener("input", () => { split = Number(range.value) / 1000; draw(); });
  zoom.addEventListener("click", () => turnZoom(null));
  full.addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else root.requestFullscreen();
  });
  full.hidden = !document.fullscreenEnabled;
  document.addEventListener("fullscreenchange", () => {
    full.textContent = document.fullscreenElement === root ? "Leave full screen" : "Full screen";
    draw();
  });
  let before = "";
  new ResizeObserver(() => {
    const now = port.clientWidth + " " + window.innerHeight;
    if (now !== before) { before = now; draw(); }
  }).observe(port);
  window.addEventListener("resize", () => { if (root.isConnected) draw(); });
  draw();
}
