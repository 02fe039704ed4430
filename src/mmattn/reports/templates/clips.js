
// Orders and filters the clips. As in compare.js, it reads and writes attributes only.
if (document.getElementById("clips")) {
  const STEP = 12;
  const cards = Array.from(document.querySelectorAll("#clips article"));
  const grid = cards[0].parentElement;
  const more = document.getElementById("more-clips");
  const controls = { order: "clip-order", clip: "clip-find", above: "clip-above", below: "clip-below" };
  const inputs = Object.entries(controls)
    .map(([key, id]) => [key, document.getElementById(id)])
    .filter(([, input]) => input);
  const facts = cards.map((card) => ({
    card,
    text: card.textContent.toLowerCase(),
    scores: card.dataset.scores.split(" ").map((score) => (score === "" ? NaN : Number(score))),
  }));
  let most = STEP;

  // How far the chosen row is above the other one, or above the mean of the rows; null where no row is chosen.
  function lead(fact) {
    if (!state.above && !state.below) return null;
    const mean = Number(fact.card.dataset.score);
    const of = (place) => (place ? fact.scores[Number(place)] : mean);
    return of(state.above) - of(state.below);
  }

  function key(fact) {
    const known = state.order.startsWith("-") ? state.order.slice(1) : state.order;
    const value = fact.card.dataset[known];
    if (value === undefined) return -Infinity;
    return state.order.startsWith("-") ? -Number(value) : Number(value);
  }

  function browse() {
    const words = state.clip.toLowerCase().split(/\s+/).filter(Boolean);
    const leads = new Map(facts.map((fact) => [fact, lead(fact)]));
    const compares = state.above || state.below;
    const sorted = [...facts].sort((a, b) => (compares ? leads.get(b) - leads.get(a) : key(b) - key(a)) || 0);
    let count = 0;
    for (const fact of sorted) {
      const fits = words.every((word) => fact.text.includes(word)) && (!compares || leads.get(fact) > 0.005);
      count += fits;
      fact.card.hidden = !fits || count > most;
    }
    grid.append(...sorted.map((fact) => fact.card));
    document.getElementById("clips-found").textContent = String(count);
    more.hidden = count <= most;
  }

  for (const [name, input] of inputs) {
    if (state[name]) input.value = state[name];
    state[name] = input.value;
    input.addEventListener(input.tagName === "SELECT" ? "change" : "input", () => {
      state[name] = input.value;
      most = STEP;
      browse();
      keep();
    });
  }
  more.addEventListener("click", () => {
    most += STEP;
    browse();
  });
  browse();
}
