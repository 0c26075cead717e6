// The layer strip: chips in running order, a tray of deleted layers, one menu for the chosen chip.
//
// Every edit is made here first and sent to Python as the whole list of slots in the plan's notation, with a
// rising number. Python answers with the plan it holds and the last number it handled, so an answer that is
// older than the newest edit here is left alone. Python validates what it gets like any other input.

const strips = new WeakMap();
const LONG_PRESS = 220; // ms a finger rests on a chip before it drags; shorter touches scroll the page
const SLOT = /^(\d+)(\.attn|\.mlp)?(?:\*(-?[\d.e+-]+))?$/;
const PARTS = [["", "Whole"], [".attn", "Attention"], [".mlp", "MLP"]];
const LIFTED = "Lifted. Arrows move it, Space puts it down, Escape puts it back.";
const MARKS = "Tinted: changed. Bar: moved. Dashed: repeated.";
const REST = "Drag to reorder, click for more.";
const KEYS = "Keys: arrows choose, Shift and arrows move, Space lifts, Delete deletes, Enter opens the menu.";

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  let strip = strips.get(parentElement);
  if (!strip) strips.set(parentElement, (strip = new Strip(parentElement)));
  strip.send = (slots, edit) => setTriggerValue("edit", { slots, edit });
  strip.receive(data);
  return () => strip.detach();
}

// What a slot's text says. A slot that is not one layer of this model, such as (4|5), has only its text as a name.
function read(text) {
  const match = SLOT.exec(text);
  if (match) {
    return { text, layer: Number(match[1]), name: "L" + match[1], part: match[2] || "", scale: match[3] || "" };
  }
  const inner = text.replace(/^\(|\)$/g, "").split("|");
  const layers = inner.map((part) => /^(?:mean\()?(\d+)/.exec(part)).filter(Boolean);
  return { text, layer: null, layers: layers.map((one) => Number(one[1])), name: inner.join("|"), part: "", scale: "" };
}

function write(layer, part, scale) {
  return layer + part + (scale && Number(scale) !== 1 ? "*" + scale : "");
}

function element(tag, attributes = {}, text = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

// Ids of the chips that are out of order: all but a longest increasing run of layer numbers.
function movedIds(slots) {
  const best = slots.map(() => 1);
  const from = slots.map(() => -1);
  let end = -1;
  slots.forEach((slot, i) => {
    if (slot.layer === null) return;
    for (let j = 0; j < i; j += 1) {
      const before = slots[j].layer;
      if (before !== null && before <= slot.layer && best[j] + 1 > best[i]) [best[i], from[i]] = [best[j] + 1, j];
    }
    if (end < 0 || best[i] > best[end]) end = i;
  });
  const inOrder = new Set();
  for (let i = end; i >= 0; i = from[i]) inOrder.add(slots[i].id);
  return new Set(slots.filter((slot) => slot.layer !== null && !inOrder.has(slot.id)).map((slot) => slot.id));
}

class Strip {
  constructor(parent) {
    const find = (name) => parent.querySelector("." + name);
    this.root = find("root");
    this.list = find("list");
    this.panel = find("panel");
    this.tray = find("tray");
    this.trayChips = find("tray-chips");
    this.trayLabel = find("tray-label");
    this.hint = find("hint");
    this.ghost = find("ghost");
    this.live = find("live");
    this.slots = [];
    this.depth = 0;
    this.edit = 0;
    this.nextId = 0;
    this.focusId = null; // the chip that Tab reaches
    this.lifted = null; // {id, slots}: taken up with Space; slots is the order to go back to
    this.drag = null;
    this.menuId = null;
    this.listen();
  }

  listen() {
    this.list.addEventListener("keydown", (event) => this.onKey(event));
    this.root.addEventListener("pointerdown", (event) => this.onDown(event));
    this.root.addEventListener("pointermove", (event) => this.onMove(event));
    this.root.addEventListener("pointerup", (event) => this.onUp(event));
    this.root.addEventListener("pointercancel", () => this.endDrag(false));
    this.root.addEventListener("contextmenu", (event) => this.drag && event.preventDefault());
    this.panel.addEventListener("keydown", (event) => event.key === "Escape" && this.closeMenu(true));
    this.outside = (event) => {
      if (this.menuId !== null && !event.composedPath().includes(this.panel)) this.closeMenu(false);
    };
    document.addEventListener("pointerdown", this.outside, true);
  }

  detach() {
    document.removeEventListener("pointerdown", this.outside, true);
  }

  // --- state -------------------------------------------------------------------------------------------

  receive(data) {
    if (!data || data.edit < this.edit || this.drag?.on) return;
    this.edit = data.edit;
    this.depth = data.depth;
    this.busy = false;
    this.slots = this.identify(data.slots);
    this.lifted = null;
    this.render();
  }

  // Give texts the ids of the chips that show them already, so that focus stays on the same chip.
  identify(texts) {
    const free = [...this.slots];
    return texts.map((text) => {
      const at = free.findIndex((slot) => slot.text === text);
      const id = at < 0 ? this.nextId++ : free.splice(at, 1)[0].id;
      return { id, ...read(text) };
    });
  }

  slot(text) {
    return { id: this.nextId++, ...read(text) };
  }

  commit(slots, message) {
    this.slots = slots;
    this.edit += 1;
    this.render();
    this.say(message);
    this.send(slots.map((slot) => slot.text), this.edit);
  }

  indexOf(id) {
    return this.slots.findIndex((slot) => slot.id === id);
  }

  deleted() {
    const used = new Set(this.slots.flatMap((slot) => (slot.layer === null ? slot.layers : [slot.layer])));
    return Array.from({ length: this.depth }, (_, layer) => layer).filter((layer) => !used.has(layer));
  }

  // --- edits -------------------------------------------------------------------------------------------

  move(id, to) {
    const slots = [...this.slots];
    const from = this.indexOf(id);
    const target = Math.max(0, Math.min(slots.length - 1, to));
    if (target === from) return;
    const [slot] = slots.splice(from, 1);
    slots.splice(target, 0, slot);
    this.focusId = id;
    const message = `${slot.name} moved to position ${target + 1} of ${slots.length}.`;
    if (this.lifted) {
      this.slots = slots;
      this.render();
      this.say(message);
    } else this.commit(slots, message);
  }

  remove(id) {
    const at = this.indexOf(id);
    if (at < 0) return;
    const slots = this.slots.filter((slot) => slot.id !== id);
    const name = this.slots[at].name;
    this.focusId = slots[Math.min(at, slots.length - 1)]?.id ?? null;
    this.commit(slots, `${name} deleted. ${slots.length} left.`);
  }

  // A deleted layer goes back before the first layer with a higher number, where it was in the base model.
  restore(layer, to = null) {
    let at = to;
    if (at === null) {
      at = this.slots.findIndex((slot) => slot.layer !== null && slot.layer > layer);
      if (at < 0) at = this.slots.length;
    }
    const slot = this.slot(String(layer));
    this.focusId = slot.id;
    this.commit(this.slots.toSpliced(at, 0, slot), `${slot.name} put back at position ${at + 1}.`);
  }

  repeat(id) {
    const at = this.indexOf(id);
    const copy = this.slot(this.slots[at].text);
    this.commit(this.slots.toSpliced(at + 1, 0, copy), `${copy.name} repeated.`);
  }

  rewrite(id, text, message) {
    const at = this.indexOf(id);
    if (this.slots[at].text === text) return;
    this.commit(this.slots.toSpliced(at, 1, { id, ...read(text) }), message);
  }

  // --- drawing -----------------------------------------------------------------------------------------

  render() {
    const hadFocus = this.root.getRootNode().activeElement;
    const focusWasHere = hadFocus && this.list.contains(hadFocus);
    if (!this.slots.some((slot) => slot.id === this.focusId)) this.focusId = this.slots[0]?.id ?? null;
    const moved = movedIds(this.slots);
    const seen = new Set();
    this.list.replaceChildren(
      ...this.slots.map((slot, position) => {
        const copy = slot.layer !== null && seen.has(slot.layer);
        seen.add(slot.layer);
        return this.chip(slot, position, moved.has(slot.id) && !copy, copy);
      }),
    );
    this.renderTray();
    const marks = this.list.querySelector(".changed") !== null;
    this.hint.textContent = this.lifted ? LIFTED : marks ? MARKS : REST;
    this.hint.title = KEYS;
    if (focusWasHere) this.focus();
    if (this.menuId !== null) this.indexOf(this.menuId) < 0 ? this.closeMenu(false) : this.drawMenu();
  }

  chip(slot, position, moved, copy) {
    const item = element("li");
    const note = [slot.part.slice(1), slot.scale && "×" + slot.scale].filter(Boolean).join(" ");
    const marks = [moved && "moved", copy && "repeated", note].filter(Boolean);
    const chip = element("button", {
      type: "button",
      class: "chip",
      tabindex: slot.id === this.focusId ? "0" : "-1",
      "aria-label": [slot.name, `position ${position + 1} of ${this.slots.length}`, ...marks].join(", "),
      "aria-haspopup": "dialog",
      "aria-keyshortcuts": "Enter Delete Space Shift+ArrowLeft Shift+ArrowRight",
    });
    chip.append(slot.name);
    chip.title = slot.layers?.length > 1 ? `${slot.name}: they read the same input` : "";
    if (note) chip.append(element("small", {}, note));
    chip.classList.toggle("changed", moved || copy || note !== "" || slot.layer === null);
    chip.classList.toggle("moved", moved);
    chip.classList.toggle("copy", copy);
    chip.classList.toggle("lifted", this.lifted?.id === slot.id);
    chip.classList.toggle("open", this.menuId === slot.id);
    chip.classList.toggle("held", Boolean(this.drag?.on) && this.drag.id === slot.id);
    chip.dataset.id = slot.id;
    const remove = element("button", { type: "button", class: "remove", tabindex: "-1", "aria-hidden": "true" }, "×");
    remove.title = `Delete ${slot.name}`;
    remove.onclick = () => this.remove(slot.id);
    item.append(chip, remove);
    return item;
  }

  renderTray() {
    const gone = this.deleted();
    this.trayLabel.textContent = gone.length ? "Deleted. Click or drag back." : "Drop a layer here to delete it.";
    this.trayChips.replaceChildren(
      ...gone.map((layer) => {
        const chip = element("button", { type: "button", class: "chip", "aria-label": `Put L${layer} back` }, "L" + layer);
        chip.dataset.layer = layer;
        chip.onclick = (event) => event.detail === 0 && this.restore(layer); // keyboard; the mouse is in onUp
        return chip;
      }),
    );
  }

  focus() {
    this.list.querySelector(`[data-id="${this.focusId}"]`)?.focus();
  }

  say(message) {
    this.live.textContent = message;
  }

  // --- keyboard ----------------------------------------------------------------------------------------

  onKey(event) {
    const chip = event.target.closest(".chip");
    if (!chip || event.ctrlKey || event.metaKey || event.altKey) return;
    const id = Number(chip.dataset.id);
    const at = this.indexOf(id);
    const target = this.stepTo(event.key, at);
    if (target !== null) {
      if (event.shiftKey || this.lifted) this.move(id, target);
      else {
        this.focusId = this.slots[Math.max(0, Math.min(this.slots.length - 1, target))].id;
        this.list.querySelectorAll(".chip").forEach((one) => {
          one.tabIndex = Number(one.dataset.id) === this.focusId ? 0 : -1;
        });
      }
      this.focus();
    } else if (event.key === "Delete" || event.key === "Backspace") this.lifted || this.remove(id);
    else if (event.key === " ") this.toggleLift(id);
    else if (event.key === "Enter") this.openMenu(id);
    else if (event.key === "Escape" && this.lifted) this.putBack();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  stepTo(key, at) {
    const columns = getComputedStyle(this.list).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns };
    return { ...steps, Home: 0, End: this.slots.length - 1 }[key] ?? null;
  }

  toggleLift(id) {
    if (!this.lifted) {
      this.lifted = { id, slots: this.slots };
      this.say(LIFTED);
      return this.render();
    }
    const before = this.lifted.slots;
    this.lifted = null;
    if (before.some((slot, i) => slot.id !== this.slots[i].id)) this.commit(this.slots, "Put down.");
    else this.render();
  }

  putBack() {
    this.slots = this.lifted.slots;
    this.lifted = null;
    this.render();
    this.say("Put back.");
  }

  // --- mouse and touch ---------------------------------------------------------------------------------

  onDown(event) {
    const chip = event.target.closest(".chip");
    if (!chip || event.button !== 0 || this.drag) return;
    const layer = chip.dataset.layer === undefined ? null : Number(chip.dataset.layer);
    this.drag = { chip, layer, id: Number(chip.dataset.id), x: event.clientX, y: event.clientY, on: false };
    this.drag.pointer = event.pointerId;
    if (event.pointerType !== "touch") return;
    this.drag.timer = setTimeout(() => this.beginDrag(), LONG_PRESS);
    // A drag in progress must not scroll the sidebar; only a listener that is not passive can say so. It sits on
    // the chip, which keeps getting the finger's events after the list was redrawn without it.
    chip.addEventListener("touchmove", (move) => this.drag?.on && move.preventDefault(), { passive: false });
  }

  onMove(event) {
    const drag = this.drag;
    if (!drag || event.pointerId !== drag.pointer) return;
    [drag.nowX, drag.nowY] = [event.clientX, event.clientY];
    const far = Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 5;
    if (!drag.on && far && event.pointerType === "touch") return this.endDrag(false); // a scroll, not a drag
    if (!drag.on && far) this.beginDrag();
    if (drag.on) this.follow(event.clientX, event.clientY);
  }

  beginDrag() {
    const drag = this.drag;
    if (!drag || drag.on) return;
    clearTimeout(drag.timer);
    this.closeMenu(false);
    // The list is redrawn while the chip moves, so the root, not the chip, keeps the pointer.
    this.root.setPointerCapture(drag.pointer);
    const box = drag.chip.getBoundingClientRect();
    Object.assign(drag, { on: true, before: this.slots, dx: drag.x - box.left, dy: drag.y - box.top });
    const shown = drag.chip.cloneNode(true);
    shown.style.width = box.width + "px";
    shown.className = "chip";
    this.ghost.replaceChildren(shown);
    this.ghost.hidden = false;
    this.root.classList.add("dragging");
    if (drag.layer !== null) Object.assign(drag, { fromTray: this.slot(String(drag.layer)) });
    this.follow(drag.nowX ?? drag.x, drag.nowY ?? drag.y);
  }

  follow(x, y) {
    const drag = this.drag;
    const home = this.root.getBoundingClientRect();
    this.ghost.style.transform = `translate(${x - home.left - drag.dx}px, ${y - home.top - drag.dy}px)`;
    drag.overTray = inside(this.tray.getBoundingClientRect(), x, y, 4);
    this.tray.classList.toggle("target", drag.overTray && drag.layer === null);
    const held = drag.fromTray || drag.before.find((slot) => slot.id === drag.id);
    const rest = drag.before.filter((slot) => slot.id !== held.id);
    const near = inside(this.list.getBoundingClientRect(), x, y, 24);
    if (drag.overTray || (drag.fromTray && !near)) {
      if (drag.fromTray) this.show(rest, held.id);
      return;
    }
    this.show(rest.toSpliced(this.dropIndex(x, y, held.id), 0, held), held.id);
  }

  show(slots, id) {
    if (slots.length === this.slots.length && slots.every((slot, i) => slot.id === this.slots[i].id)) return;
    this.drag.id = id;
    this.slots = slots;
    this.render();
  }

  // How many of the other chips come before the pointer, in reading order.
  dropIndex(x, y, heldId) {
    const items = [...this.list.querySelectorAll(".chip")];
    const boxes = items.map((chip) => ({ id: Number(chip.dataset.id), box: chip.getBoundingClientRect() }));
    const held = boxes.findIndex((item) => item.id === heldId);
    // Over a chip the held one takes its place; between chips it goes before the next one in reading order.
    const over = boxes.findIndex(({ box }) => inside(box, x, y, 3));
    if (over >= 0) return over;
    const after = boxes.findIndex(({ box }) => y < box.top || (y < box.bottom && x < box.left + box.width / 2));
    const at = after < 0 ? boxes.length : after;
    return held >= 0 && held < at ? at - 1 : at;
  }

  onUp(event) {
    const drag = this.drag;
    if (!drag || event.pointerId !== drag.pointer) return;
    if (drag.on) return this.endDrag(true);
    this.endDrag(false);
    if (!event.target.closest(".chip")) return;
    if (drag.layer !== null) this.restore(drag.layer);
    else this.menuId === drag.id ? this.closeMenu(true) : this.openMenu(drag.id);
  }

  endDrag(keep) {
    const drag = this.drag;
    if (!drag) return;
    clearTimeout(drag.timer);
    this.drag = null;
    if (!drag.on) return;
    this.ghost.hidden = true;
    this.root.classList.remove("dragging");
    this.tray.classList.remove("target");
    const after = this.slots;
    const held = drag.fromTray || drag.before.find((slot) => slot.id === drag.id);
    this.slots = drag.before;
    this.focusId = held.id;
    if (keep && drag.overTray && !drag.fromTray) return this.remove(held.id);
    const changed = after.length !== drag.before.length || after.some((slot, i) => slot.id !== drag.before[i].id);
    if (!keep || !changed) return this.render();
    const position = after.findIndex((slot) => slot.id === held.id) + 1;
    this.commit(after, `${held.name} moved to position ${position} of ${after.length}.`);
  }

  // --- the chip's menu ---------------------------------------------------------------------------------

  openMenu(id) {
    this.menuId = id;
    this.focusId = id;
    this.render();
    this.panel.querySelector("button:not(:disabled)")?.focus();
  }

  closeMenu(backToChip) {
    if (this.menuId === null) return;
    this.menuId = null;
    this.panel.hidden = true;
    this.render();
    if (backToChip) this.focus();
  }

  drawMenu() {
    const active = this.root.getRootNode().activeElement;
    const remembered = active && this.panel.contains(active) ? active.dataset.item : null;
    const at = this.indexOf(this.menuId);
    const slot = this.slots[at];
    const title = element("h3", {}, `${slot.name}, position ${at + 1} of ${this.slots.length}`);
    this.panel.replaceChildren(title, this.moveRow(slot, at), ...(slot.layer === null ? [] : this.layerRows(slot)));
    const chip = this.list.querySelector(`[data-id="${slot.id}"]`).getBoundingClientRect();
    this.panel.style.top = chip.bottom - this.root.getBoundingClientRect().top + 6 + "px";
    this.panel.hidden = false;
    if (remembered) this.panel.querySelector(`[data-item="${remembered}"]`)?.focus();
  }

  action(label, item, act, attributes = {}) {
    const button = element("button", { type: "button", "data-item": item, ...attributes }, label);
    button.onclick = act;
    return button;
  }

  moveRow(slot, at) {
    const row = element("div", { class: "row" });
    const first = this.action("←", "left", () => this.move(slot.id, at - 1), { "aria-label": "Move earlier" });
    const last = this.action("→", "right", () => this.move(slot.id, at + 1), { "aria-label": "Move later" });
    first.disabled = at === 0;
    last.disabled = at === this.slots.length - 1;
    const erase = () => {
      this.closeMenu(true);
      this.remove(slot.id);
    };
    row.append(first, last, this.action("Repeat", "repeat", () => this.repeat(slot.id)));
    row.append(this.action("Delete", "delete", erase, { class: "delete" }));
    return row;
  }

  layerRows(slot) {
    const parts = element("div", { class: "row", role: "group", "aria-label": "Which half runs" });
    for (const [part, label] of PARTS) {
      const act = () => this.rewrite(slot.id, write(slot.layer, part, slot.scale), `${slot.name}: ${label}.`);
      parts.append(this.action(label, "part" + part, act, { "aria-pressed": String(slot.part === part) }));
    }
    return [parts, this.scaleRow(slot), this.replaceRow(slot)];
  }

  scaleRow(slot) {
    const input = element("input", { type: "number", step: "0.1", "data-item": "scale", value: slot.scale || "1" });
    input.onchange = () => {
      const scale = Number.isFinite(input.valueAsNumber) ? String(input.valueAsNumber) : "1";
      this.rewrite(slot.id, write(slot.layer, slot.part, scale), `${slot.name} scaled by ${scale}.`);
    };
    return labelled("Scale its contribution", input);
  }

  replaceRow(slot) {
    const select = element("select", { "data-item": "replace" });
    for (let layer = 0; layer < this.depth; layer += 1) {
      const option = element("option", { value: layer }, layer === slot.layer ? `L${layer}, itself` : "L" + layer);
      option.selected = layer === slot.layer;
      select.append(option);
    }
    select.onchange = () =>
      this.rewrite(slot.id, write(select.value, slot.part, slot.scale), `${slot.name} replaced by L${select.value}.`);
    return labelled("Replace by", select);
  }
}

function labelled(text, control) {
  const row = element("div", { class: "row" });
  const label = element("label", {}, text);
  label.append(control);
  row.append(label);
  return row;
}

function inside(box, x, y, margin) {
  return x >= box.left - margin && x <= box.right + margin && y >= box.top - margin && y <= box.bottom + margin;
}
