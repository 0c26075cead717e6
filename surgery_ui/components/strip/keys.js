// The keyboard: on a chip, in its menu and on the tools of several chips.
Object.assign(Strip.prototype, {
  onKey(event) {
    const chip = event.target.closest(".chip");
    if (!chip || event.metaKey || event.altKey) return;
    const id = Number(chip.dataset.id);
    const taken = event.ctrlKey ? this.controlKey(event.key) : this.chipKey(event, id);
    if (taken) take(event);
  },

  controlKey(key) {
    if (key !== "a" && key !== "A") return false;
    this.select(this.slots.map((slot) => slot.id));
    this.focus();
    return true;
  },

  chipKey(event, id) {
    const several = this.selected.has(id) && !this.lifted;
    const at = this.indexOf(id);
    const target = this.stepTo(event.key, at);
    if (target !== null) this.arrow(id, at, target, event.shiftKey, several);
    else if (event.key === "Delete" || event.key === "Backspace") this.erase(id, several);
    else if (event.key === " " && event.shiftKey) this.extend(id);
    else if (event.key === " ") this.toggleLift(id);
    else if (event.key === "Enter") this.openMenu(id);
    else if (event.key === "Escape" && this.lifted) this.putBack();
    else if (event.key === "Escape" && this.selected.size) this.clearSelection();
    else return false;
    return true;
  },

  arrow(id, at, target, moves, several) {
    if (moves && several) this.moveSelected(target - at);
    else if (moves || this.lifted) this.move(id, target);
    else {
      this.focusId = this.slots[Math.max(0, Math.min(this.slots.length - 1, target))].id;
      this.list.querySelectorAll(".chip").forEach((one) => {
        one.tabIndex = Number(one.dataset.id) === this.focusId ? 0 : -1;
      });
    }
    this.focus();
  },

  erase(id, several) {
    if (this.lifted) return;
    if (several) this.removeSelected();
    else this.remove(id);
  },

  // The first press begins a choice at this chip; the next ones stretch it to where the focus went.
  extend(id) {
    if (!this.selected.size) this.anchorId = id;
    this.selectTo(id);
    this.focus();
  },

  stepTo(key, at) {
    const columns = getComputedStyle(this.list).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns };
    return { ...steps, Home: 0, End: this.slots.length - 1 }[key] ?? null;
  },

  // A click on a chip opens its menu and puts the focus there, so the menu takes the strip's keys too.
  onMenuKey(event) {
    if (event.key === "Escape") return this.closeMenu(true);
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
    const at = this.indexOf(this.menuId);
    const target = event.target.tagName === "SELECT" ? null : this.stepTo(event.key, at);
    if (event.key === "Delete" || event.key === "Backspace") this.eraseFromMenu(this.menuId);
    else if (target !== null && event.shiftKey) this.move(this.menuId, target);
    else if (target !== null) this.openMenu(this.slots[Math.max(0, Math.min(this.slots.length - 1, target))].id, true);
    else return;
    take(event);
  },

  onToolsKey(event) {
    if (event.key === "Escape") {
      this.clearSelection();
      this.focus();
    } else if (!event.ctrlKey && event.target.tagName !== "INPUT" && ["Delete", "Backspace"].includes(event.key)) {
      this.removeSelected();
    } else return;
    take(event);
  },

  toggleLift(id) {
    if (!this.lifted) {
      this.selected.clear();
      this.lifted = { id, slots: this.slots };
      this.say(LIFTED);
      return this.render();
    }
    const before = this.lifted.slots;
    this.lifted = null;
    if (before.some((slot, i) => slot.id !== this.slots[i].id)) this.commit(this.slots, "Put down.");
    else this.render();
  },

  putBack() {
    this.slots = this.lifted.slots;
    this.lifted = null;
    this.render();
    this.say("Put back.");
  },
});

function take(event) {
  event.preventDefault();
  event.stopPropagation();
}
