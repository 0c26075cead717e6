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
    // A chip of several that are selected takes the others along.
    const several = drag.layer === null && this.selected.has(drag.id);
    const one = drag.layer === null ? this.slots[this.indexOf(drag.id)] : this.slot(String(drag.layer));
    drag.held = several ? this.chosen() : [one];
    drag.ids = new Set(drag.held.map((slot) => slot.id));
    drag.scroller = setInterval(() => this.scrollAtEdge(), 40);
    const shown = drag.chip.cloneNode(true);
    shown.style.width = box.width + "px";
    shown.className = "chip";
    if (drag.held.length > 1) shown.append(element("small", {}, `${drag.held.length} layers`));
    this.ghost.replaceChildren(shown);
    this.ghost.hidden = false;
    this.root.classList.add("dragging");
    this.follow(drag.nowX ?? drag.x, drag.nowY ?? drag.y);
  },

  follow(x, y) {
    const drag = this.drag;
    const home = this.root.getBoundingClientRect();
    this.ghost.style.transform = `translate(${x - home.left - drag.dx}px, ${y - home.top - drag.dy}px)`;
    [drag.lastX, drag.lastY] = [x, y];
    drag.overTray = inside(this.tray.getBoundingClientRect(), x, y, 4);
    this.tray.classList.toggle("target", drag.overTray && drag.layer === null);
    const rest = drag.before.filter((slot) => !drag.ids.has(slot.id));
    const near = inside(this.list.getBoundingClientRect(), x, y, 24);
    if (drag.overTray || (drag.layer !== null && !near)) {
      if (drag.layer !== null) this.show(rest);
      return;
    }
    this.show(rest.toSpliced(this.dropIndex(x, y), 0, ...drag.held));
  },

  // Where the list is longer than its window, a chip that is held at its edge scrolls it.
  scrollAtEdge() {
    const [drag, box] = [this.drag, this.list.getBoundingClientRect()];
    if (drag?.lastY === undefined || this.list.scrollHeight <= this.list.clientHeight) return;
    const by = drag.lastY < box.top + 22 ? -9 : drag.lastY > box.bottom - 22 && drag.lastY < box.bottom + 12 ? 9 : 0;
    const before = this.list.scrollTop;
    this.list.scrollTop += by;
    if (this.list.scrollTop !== before) this.follow(drag.lastX, drag.lastY);
  },

  show(slots) {
    if (slots.length === this.slots.length && slots.every((slot, i) => slot.id === this.slots[i].id)) return;
    this.slots = slots;
    this.render();
  },

  // How many of the chips that are not held come before the pointer, in reading order.
  dropIndex(x, y) {
    const items = [...this.list.querySelectorAll(".chip")];
    const boxes = items.map((chip) => ({ id: Number(chip.dataset.id), box: chip.getBoundingClientRect() }));
    const isHeld = boxes.map((item) => this.drag.ids.has(item.id));
    const restBefore = (at) => at - isHeld.slice(0, at).filter(Boolean).length;
    const first = isHeld.indexOf(true);
    // Over a chip the held ones take its place; between chips they go before the next one in reading order.
    const over = boxes.findIndex(({ box }) => inside(box, x, y, 3));
    if (over >= 0 && isHeld[over]) return restBefore(first);
    if (over >= 0) return restBefore(over) + (first >= 0 && first < over ? 1 : 0);
    const after = boxes.findIndex(({ box }) => y < box.top || (y < box.bottom && x < box.left + box.width / 2));
    return restBefore(after < 0 ? boxes.length : after);
  },

  onUp(event) {
    const drag = this.drag;
    if (!drag || event.pointerId !== drag.pointer) return;
    if (drag.on) return this.endDrag(true);
    this.endDrag(false);
    if (!event.target.closest(".chip")) return;
    if (drag.layer !== null) this.restore(drag.layer);
    else if (event.shiftKey) this.selectTo(drag.id);
    else if (event.ctrlKey || event.metaKey) this.selectToggle(drag.id);
    else this.menuId === drag.id ? this.closeMenu(true) : this.openMenu(drag.id);
  },

  endDrag(keep) {
    const drag = this.drag;
    if (!drag) return;
    clearTimeout(drag.timer);
    clearInterval(drag.scroller);
    this.drag = null;
    if (!drag.on) return;
    this.ghost.hidden = true;
    this.root.classList.remove("dragging");
    this.tray.classList.remove("target");
    const after = this.slots;
    this.slots = drag.before;
    const [held] = drag.held;
    this.focusId = held.id;
    if (keep && drag.overTray && drag.layer === null) {
      return drag.held.length > 1 ? this.removeSelected() : this.remove(held.id);
    }
    const changed = after.length !== drag.before.length || after.some((slot, i) => slot.id !== drag.before[i].id);
    if (!keep || !changed) return this.render();
    const position = after.findIndex((slot) => slot.id === held.id);
    const what = drag.held.length > 1 ? counted(drag.held.length) : held.spoken;
    this.commit(after, `${what} moved to position ${position}.`);
  },
});

function inside(box, x, y, margin) {
  return x >= box.left - margin && x <= box.right + margin && y >= box.top - margin && y <= box.bottom + margin;
}
