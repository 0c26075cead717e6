// The tour. Python tells the facts of each run; which step it is, and whether the tour was seen, the browser keeps.
// The card lies beside the page and not in it: nothing moves, and a closed sidebar does not take it along.
const TOUR = "model-surgery-tour";
const LOOK = 250; // ms between two looks at the page
const NARROW = 768; // px; where Streamlit's sidebar lies over the page

export default function ({ parentElement, data }) {
  const tour = (window[Symbol.for(TOUR)] ??= new Tour(data.css));
  tour.receive(data, parentElement);
}

class Tour {
  constructor(css) {
    this.card = new Card(css, (act) => this[act]());
    this.asked = null;
    this.step = null; // where it is: {chapter, at, began, before}; began and before are facts of chapter and step
    this.said = null; // what stands on the card between two chapters: {kind: "offer" or "end", chapter}
    this.byItself = false;
    this.look = this.look.bind(this);
    this.frame = 0; // that is asked for already
    this.follow = () => {
      if (!this.open || this.frame) return;
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        if (this.open) this.card.follow();
      });
    };
    addEventListener("keydown", (event) => (this.busy = isTaken(event)), true);
    addEventListener("keydown", (event) => this.onKey(event));
    for (const event of ["scroll", "resize"]) addEventListener(event, this.follow, { capture: true, passive: true });
  }

  get open() {
    return this.step !== null || this.said !== null;
  }

  receive(data, parent) {
    this.data = data;
    this.facts = data.facts;
    this.card.colours = parent.querySelector(".tour");
    const first = this.asked === null;
    const asked = data.asked > (this.asked ?? 0);
    this.asked = data.asked;
    if (asked) this.start(data.chapter);
    else if (first && stored(sessionStorage)?.chapter !== undefined) this.step = stored(sessionStorage);
    else if (first && data.invited && seen("") === undefined) this.begin();
    else this.offer();
    this.timer ??= setInterval(this.look, LOOK);
    this.look();
  }

  // By itself the tour waits until the page is there, and then stands in a corner.
  begin() {
    if (isBusy()) return setTimeout(() => this.open || seen("") !== undefined || this.begin(), LOOK);
    if (this.facts.page !== "") return;
    this.start("", true);
  }

  start(chapter, byItself = false) {
    this.said = null;
    this.byItself = byItself;
    this.step = { chapter, at: 0, began: this.facts, before: this.facts };
    store(sessionStorage, this.step);
    this.look();
  }

  offer() {
    const { page } = this.facts;
    if (this.said?.kind === "offer" && this.said.chapter !== page) this.said = null;
    if (this.open || page === "" || !this.data.chapters[page]) return;
    if (seen("") === "done" && seen(page) === undefined) this.said = { kind: "offer", chapter: page };
  }

  // --- the steps ---------------------------------------------------------------------------------------

  look() {
    while (this.step && this.isDone(this.now())) this.forward();
    if (this.step) this.card.show(...this.shown());
    else if (this.said) this.card.show(...this.between());
    else this.card.hide();
  }

  now() {
    return this.data.chapters[this.step.chapter][this.step.at];
  }

  isDone(step) {
    const { began, before } = this.step;
    const { facts } = this;
    began.sweeps = Math.min(began.sweeps, facts.sweeps); // a reload counts anew
    return {
      open: facts.changed || find(".st-key-strip >>> .chip.open, .chip.chosen") !== null,
      changed: facts.changed,
      unchanged: !facts.changed,
      sweep: facts.sweeps > began.sweeps,
      swept: facts.sweeps > 0,
      cell: String(facts.cell) !== String(before.cell),
      statistic: facts.statistic !== before.statistic,
      next: false,
    }[step.until];
  }

  forward() {
    const { chapter, at } = this.step;
    if (at + 1 === this.data.chapters[chapter].length) return this.end();
    this.step = { ...this.step, at: at + 1, before: this.facts };
    this.byItself = false;
    store(sessionStorage, this.step);
  }

  next() {
    this.forward();
    this.look();
  }

  end() {
    const { chapter } = this.step;
    this.step = null;
    this.said = { kind: "end", chapter };
    remember(chapter, "done");
    store(sessionStorage, null);
  }

  skip() {
    remember(this.step?.chapter ?? this.said.chapter, "skipped");
    this.close();
  }

  close() {
    const more = this.more();
    if (more !== undefined) remember(more, "skipped"); // it was offered on this card
    const hadFocus = this.card.hasFocus();
    this.step = this.said = null;
    store(sessionStorage, null);
    this.card.hide();
    if (hadFocus) find(".st-key-tour-start button")?.focus({ preventScroll: true });
  }

  showMore() {
    this.start(this.more() ?? this.said.chapter);
  }

  // The chapter of the page that is shown, where one has just come to its end and that one was not seen.
  more() {
    const { page } = this.facts;
    const offered = this.said?.kind === "end" && page !== "" && this.data.chapters[page] && seen(page) === undefined;
    return offered ? page : undefined;
  }

  // --- what stands on the card -------------------------------------------------------------------------

  // Something may be in the way of a step: another page, or the sidebar. Then that is pointed at and said.
  shown() {
    const step = this.now();
    const there = step.page === null || step.page === this.facts.page;
    const inSidebar = step.sidebar || (!there && innerWidth <= NARROW);
    const way = sidebar();
    let at = there ? step.at : [`a[href$="/${step.page}"]`];
    let text = there ? step.text : this.data.go.replace("{}", this.data.pages[step.page]);
    if (inSidebar && !way.open) [at, text] = [[way.opener], there ? this.data.open : text];
    else if (!inSidebar && way.over) [at, text] = [[way.closer], this.data.close];
    const count = `Step ${this.step.at + 1} of ${this.data.chapters[this.step.chapter].length}`;
    const next = step.until === "next" && there && (inSidebar || !way.over);
    const acts = [...(next ? [["next", "Next", "go"]] : []), ["skip", "Skip the tour", ""]];
    const corner = this.byItself && innerWidth > NARROW;
    return [{ count, title: step.title, text, acts }, at.map(find).find(Boolean) ?? null, corner];
  }

  between() {
    const { kind, chapter } = this.said;
    const [title, text] = kind === "offer" ? this.data.offer : this.data.end[chapter];
    const more = kind === "offer" || this.more() !== undefined;
    const leave = [kind === "offer" ? "skip" : "close", more ? "Not now" : "Close", ""];
    const acts = more ? [["showMore", "Show me this page", "go"], leave] : [leave];
    return [{ count: "", title, text, acts }, null, true];
  }

  // Escape ends the tour, but only where it is nobody else's: no field, menu, list or lifted layer wants it.
  onKey(event) {
    if (event.key !== "Escape" || !this.open || this.busy || event.defaultPrevented) return;
    this.said?.kind === "end" ? this.close() : this.skip();
  }
}

function isTaken(event) {
  const target = event.composedPath()[0];
  const field = /^(INPUT|TEXTAREA|SELECT)$/;
  const types = target instanceof Element && (target.isContentEditable || field.test(target.tagName));
  const open = '[data-testid="stPopoverBody"], [role="listbox"], [role="dialog"], [role="menu"]';
  const inStrip = ".st-key-strip >>> .chip.open, .chip.lifted, .chip.chosen, .chip.held";
  return types || [...document.querySelectorAll(open)].some(isSeen) || find(inStrip) !== null;
}

function isBusy() {
  return document.querySelector('[data-testid="stApp"]')?.dataset.testScriptState !== "notRunning";
}

// --- what the browser remembers --------------------------------------------------------------------------

function seen(chapter) {
  return stored(localStorage)?.[chapter];
}

function remember(chapter, how) {
  store(localStorage, { ...stored(localStorage), [chapter]: how });
}

function stored(storage) {
  try {
    const found = JSON.parse(storage.getItem(TOUR));
    return found && typeof found === "object" ? found : null;
  } catch {
    return null; // a browser that keeps nothing begins anew
  }
}

function store(storage, value) {
  try {
    if (value === null) storage.removeItem(TOUR);
    else storage.setItem(TOUR, JSON.stringify(value));
  } catch {
    // as above
  }
}
