// Dragging chips with the mouse or a finger.
const LONG_PRESS = 220; // ms a finger rests on a chip before it drags; shorter touches scroll the page

Object.assign(Strip.prototype, {
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
  },

  onMove(event) {
    const drag = this.drag;
    if (!drag || event.pointerId !== drag.pointer) return;
    [drag.nowX, drag.nowY] = [event.clientX, event.clientY];
    const far = Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 5;
    if (!drag.on && far && event.pointerType === "touch") return this.endDrag(false); // a scroll, not a drag
    if (!drag.on && far) this.beginDrag();
    if (drag.on) this.follow(event.clientX, event.clientY);
  },

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
  },

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
  },

  show(slots, id) {
    if (slots.length === this.slots.length && slots.every((slot, i) => slot.id === this.slots[i].id)) return;
    this.drag.id = id;
    this.slots = slots;
    this.render();
  },

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
  },

  onUp(event) {
    const drag = this.drag;
    if (!drag || event.pointerId !== drag.pointer) return;
    if (drag.on) return this.endDrag(true);
    this.endDrag(false);
    if (!event.target.closest(".chip")) return;
    if (drag.layer !== null) this.restore(drag.layer);
    else this.menuId === drag.id ? this.closeMenu(true) : this.openMenu(drag.id);
  },

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
  },
});

function inside(box, x, y, margin) {
  return x >= box.left - margin && x <= box.right + margin && y >= box.top - margin && y <= box.bottom + margin;
}
